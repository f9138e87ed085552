"""The correctness gate: a fast path is timed only if it agrees with its plain reference at a small size."""

import math

import torch
from torch import Tensor

from mann_bench.data.result import Check
from mann_bench.measure.workload import Workload, make_workload

TOLERANCE = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.1}  # relative RMS error of a tensor after SMALL_STEPS steps


def check_workload(workload: Workload) -> Check | None:
    """Compare outputs, states and all gradients of the workload with its reference at a small size; None for the reference itself."""
    if workload.twin is None:
        return None
    fast, reference = (make_workload(case) for case in workload.twin)
    with torch.no_grad():
        for name, value in reference.parameters().items():
            value.copy_(fast.parameters()[name])
    expected, got = reference.observables(), fast.observables()
    max_error = max(relative_error(expected[name], got[name]) if name in got else math.inf for name in expected)
    plain = f"{reference.case.name}, " if reference.case.variant != fast.case.variant else ""
    return Check(
        compared_with=f"{plain}kernels={reference.case.kernels}, index={reference.case.index}",
        max_rel_err=max_error,
        ok=max_error <= TOLERANCE[workload.case.dtype],
    )


def relative_error(expected: Tensor, got: Tensor) -> float:
    """RMS of the difference over RMS of the expected tensor; infinite (never NaN) if shapes differ or a value of either is not finite."""
    if expected.shape != got.shape or not all(bool(torch.isfinite(tensor).all()) for tensor in (expected, got)):
        return math.inf
    if not expected.numel():
        return 0.0
    difference = (expected.double() - got.double()).square().mean().sqrt()
    error = float(difference / expected.double().square().mean().sqrt().clamp_min(1e-12))
    return error if math.isfinite(error) else math.inf  # squares may overflow
