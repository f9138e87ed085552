"""Conditions that results were measured under: machine, software, code and budget, and what tells one set of them from another.

`run.json` has the conditions of a run's start at its top. A run that goes on under others (`--resume` on another machine, say) adds them to
its list `resumed`. A record's field `conditions` is their number: 0 are those of the start, 1 the first of the list.
"""

from collections.abc import Mapping, Sequence
from typing import Any

MACHINE = ("cpu", "cores", "usable_threads", "cpu_quota", "gpus")  # if these differ, times say nothing about the code
SOFTWARE = (
    *("ram_bytes", "memory_limit_bytes", "huge_pages", "system", "python", "torch", "torch_cuda", "compiler"),
    *("allocator", "allocator_library", "variables", "packages"),
)
CODE = ("kernel_build", "git")
PARTS = ("started_at", "budget", "environment")  # keys of run.json that are conditions

Facts = Mapping[str, Any]


def all_conditions(run: Facts) -> list[dict[str, Any]]:
    """All conditions of a run, in the order of their numbers.

    Args:
        run: content of `run.json`.
    """
    return [{name: run[name] for name in PARTS if name in run}, *run.get("resumed", [])]


def conditions_of(run: Facts, number: int) -> dict[str, Any]:
    """The conditions of a number; empty if `run.json` does not have them."""
    conditions = all_conditions(run)
    return conditions[number] if 0 <= number < len(conditions) else {}


def changes(before: Facts, after: Facts) -> list[str]:
    """What differs between two conditions, a phrase each; when they began does not count."""
    old, new = before.get("environment", {}), after.get("environment", {})
    return [*differences(old, new, (*MACHINE, *SOFTWARE, *CODE)), *differences(before, after, ("budget",))]


def differences(before: Facts, after: Facts, names: Sequence[str]) -> list[str]:
    """Those of the named facts that differ, as `torch: 2.13.0 and 2.14.0`. A fact that one side did not record is no difference."""
    found = []
    for name in names:
        if name not in before or name not in after:
            continue
        old, new = before[name], after[name]
        if isinstance(old, dict) and isinstance(new, dict):
            texts = ((key, _as_text(old.get(key, "none")), _as_text(new.get(key, "none"))) for key in dict.fromkeys([*old, *new]))
            found += [f"{name} {key}: {a} and {b}" for key, a, b in texts if a != b]
        elif _as_text(old) != _as_text(new):
            found.append(f"{name}: {_as_text(old)} and {_as_text(new)}")
    return found


def _as_text(value: Any) -> str:
    if isinstance(value, list):  # GPUs: only their names
        return ", ".join(str(part.get("name", part)) if isinstance(part, dict) else str(part) for part in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items()) or "none"
    return "unknown" if value is None else str(value)
