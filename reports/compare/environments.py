"""Whether two runs are comparable: the differences between their environments."""

from collections.abc import Sequence
from typing import Any

MACHINE = ("cpu", "cores", "usable_threads", "gpus")  # if these differ, times say nothing about the code
SOFTWARE = ("ram_bytes", "memory_limit_bytes", "huge_pages", "system", "python", "torch", "torch_cuda", "compiler", "allocator", "packages")


def environment_differences(before: dict[str, Any], after: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Compare the environments of two `run.json`.

    Returns:
        Differences of the machine, which are a reason to refuse a comparison, and of its settings and software, a reason to warn.
    """
    old, new = before.get("environment", {}), after.get("environment", {})
    if not old or not new:
        return [], ["run.json without an environment: both sides may have run on different machines"]

    def differing(names: Sequence[str]) -> list[str]:
        texts = ((name, _as_text(old.get(name)), _as_text(new.get(name))) for name in names)
        return [f"{name}: {a} and {b}" for name, a, b in texts if a != b]

    dirty = [f"{name} had uncommitted changes" for name, side in (("A", old), ("B", new)) if (side.get("git") or {}).get("dirty")]
    return differing(MACHINE), differing(SOFTWARE) + dirty


def _as_text(value: Any) -> str:
    if isinstance(value, list):  # GPUs: only their names, not their free memory
        return ", ".join(str(part.get("name", part)) if isinstance(part, dict) else str(part) for part in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items() if key != "mann-bench")
    return "unknown" if value is None else str(value)
