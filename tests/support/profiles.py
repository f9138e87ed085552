"""Made-up profiles with known numbers, for tests of their page: nothing was run."""

from typing import Any

from mann_bench.data.case import Case
from mann_bench.data.result import Backend, Memory
from mann_bench.measure.ledger import CAUSES
from mann_bench.measure.profile import PhaseTime, Profile, StepPoint


def make_profile(model: str = "sam", *, tape_bytes: int = 1000, steps: int = 4, ms: float = 1.0, **changes: Any) -> Profile:
    """Make up a profile.

    Args:
        tape_bytes: what each step keeps for backward.
        ms: of a step's forward; its backward takes twice as long.
        changes: fields of the profile; those of `case` are added to it.
    """
    case = Case(**{"suite": "profile", "model": model, "slots": 1024, "steps": steps, **changes.pop("case", {})})
    base = dict.fromkeys(CAUSES, 0) | {"parameters": 50_000, "memory": 131_072}
    points = []
    for direction in ("forward", "backward") if case.mode == "train" else ("forward",):
        for step in range(1, steps + 1):
            held = base | {"tape": tape_bytes * step}
            points.append(StepPoint(direction=direction, step=step, ms=ms, peak_bytes=sum(held.values()) + 500, held=held))
    ledger = base | {"tape": tape_bytes * steps, "workspace": 500}
    fields: dict[str, Any] = {
        "case": case,
        "ran": Backend(kernels="native", index="exact", device_name="a device"),
        "how": "steps of one pass",
        "phases_of": "this pass, kernels=native",
        "pass_ms": {"forward": ms * steps} | ({"backward": 2 * ms * steps} if case.mode == "train" else {}),
        "recorded_ms": {"forward": 2 * ms * steps},
        "phases": [
            PhaseTime(direction="forward", phase="read", host_ms=ms, device_ms=0.0, share=0.75),
            PhaseTime(direction="forward", phase="rest", host_ms=ms / 3, device_ms=0.0, share=0.25),
        ],
        "points": points,
        "memory": Memory(
            peak_bytes=sum(ledger.values()),
            start_bytes=sum(base.values()),
            tape_bytes=tape_bytes * steps,
            bytes_per_step=tape_bytes,
            bytes_per_step_low=tape_bytes,
            bytes_per_step_high=tape_bytes,
            state_bytes=131_072,
            ledger=ledger,
            leaked_bytes=0,
            rss_peak_bytes=2**28,
        ),
        "predicted": None,
        "nvml_bytes": [],
        "files": ["trace.json"],
    }
    return Profile(**(fields | changes))
