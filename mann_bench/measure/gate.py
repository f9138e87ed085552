"""The correctness gate: before a fast path is timed at scale, it must agree with the readable reference at a small size."""

import torch
from torch import Tensor

from mann_bench.data.result import Check
from mann_bench.measure.workload import Workload, make_workload

TOLERANCE = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.1}  # relative RMS of a tensor, after seven steps of rounding


def check_workload(workload: Workload) -> Check | None:
    """Outputs, states and all gradients of the workload at a small size against its reference; None for the reference itself."""
    if workload.twin is None:
        return None
    fast, reference = (make_workload(case) for case in workload.twin)
    with torch.no_grad():
        for name, value in reference.parameters().items():
            value.copy_(fast.parameters()[name])
    expected, got = reference.observables(), fast.observables()
    worst = max(relative_error(expected[name], got[name]) for name in expected)
    return Check(
        compared_with=f"kernels={reference.case.kernels}, index={reference.case.index}",
        max_rel_err=worst,
        ok=worst <= TOLERANCE[workload.case.dtype],
    )


def relative_error(expected: Tensor, got: Tensor) -> float:
    """RMS of the difference over RMS of the expected tensor; infinite if anything is not finite or of another shape."""
    if expected.shape != got.shape or not bool(torch.isfinite(got).all()):
        return float("inf")
    difference = (expected.double() - got.double()).square().mean().sqrt()
    return float(difference / expected.double().square().mean().sqrt().clamp_min(1e-12))
