"""Made-up results with planted growth, for tests of reports."""

from typing import Any, Literal, overload

from mann_bench.data.case import Case
from mann_bench.data.result import Backend, Interval, Measured, Memory, NotMeasured, Result, Samples, Timing


@overload
def make_result(
    model: str = ..., slots: int = ..., *, ms: float = ..., per_step: float = ..., status: Literal["ok"] = ..., **changes: Any
) -> Measured: ...


@overload
def make_result(model: str = ..., slots: int = ..., *, ms: float = ..., per_step: float = ..., status: str, **changes: Any) -> Result: ...


def make_result(
    model: str = "sam", slots: int = 64, *, ms: float = 1.0, per_step: float = 100.0, status: Any = "ok", **changes: Any
) -> Result:
    """A result with a median of `ms` (± 1%) a step and a tape that grows by `per_step` bytes a step; `changes` are fields of the case."""
    reason = changes.pop("reason", None)
    case = Case(**{"suite": "made-up", "model": model, "slots": slots, "steps": 10, **changes})
    started_at, wall_s = "2026-01-01T00:00:00+00:00", 1.0
    if status != "ok":
        return NotMeasured(case_id=case.case_id, status=status, reason=reason, case=case, started_at=started_at, wall_s=wall_s)
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
    return Measured(
        case_id=case.case_id,
        reason=reason,
        case=case,
        backend=Backend(kernels="torch", index=case.index, device_name="test"),
        time=Timing(pass_ms=pass_ms, step_ms=step_ms, warmup_ms=[20 * ms], stop_reason="time budget"),
        memory=memory,
        started_at=started_at,
        wall_s=wall_s,
    )
