"""Made-up results with planted growth, for tests of what is concluded from them."""

from typing import Any

from mann_bench.data.case import Case
from mann_bench.data.result import Interval, Memory, Ran, Result, Samples, Timing


def make_result(
    model: str = "sam", slots: int = 64, *, ms: float = 1.0, per_step: float = 100.0, status: Any = "ok", **changes: Any
) -> Result:
    """One result whose median time a step is `ms` (± 1%) and whose tape grows by `per_step` bytes a step."""
    reason = changes.pop("reason", None)
    case = Case(**{"suite": "made-up", "model": model, "slots": slots, "steps": 10, **changes})
    pass_ms = Samples(median=10 * ms, ci_low=9.9 * ms, ci_high=10.1 * ms, min=9.8 * ms, count=3, samples=[9.8 * ms, 10 * ms, 10.1 * ms])
    step_ms = Interval(median=ms, ci_low=0.99 * ms, ci_high=1.01 * ms)
    memory = Memory(
        peak_bytes=int(10 * per_step) + 1000,
        start_bytes=1000,
        tape_bytes=int(10 * per_step),
        bytes_per_step=per_step,
        state_bytes=500,
        rss_peak_bytes=10**6,
    )
    measured = status == "ok"
    return Result(
        case_id=case.case_id,
        status=status,
        reason=reason,
        case=case,
        ran=Ran(kernels="torch", index=case.index, device_name="test") if measured else None,
        time=Timing(pass_ms=pass_ms, step_ms=step_ms, warmup_ms=[20 * ms], stop_reason="time budget") if measured else None,
        memory=memory if measured else None,
        started_at="2026-01-01T00:00:00+00:00",
        wall_s=1.0,
    )
