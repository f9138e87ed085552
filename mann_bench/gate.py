"""The correctness gate: before a fast path is timed at scale, it must agree with the readable reference at a small size."""

from typing import Any

import torch
from torch import Tensor

from mann_bench.case import Case
from mann_bench.result import Check
from mann_bench.workload import Workload

SMALL_SLOTS = 97  # prime: no size of a fast path divides it
SMALL_STEPS = 7
TOLERANCE = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.1}  # relative RMS of a tensor, after seven steps of rounding


def check_case(case: Case, ran: dict[str, str]) -> Check | None:
    """Outputs and all gradients of the case's model against `kernels="torch", index="exact"`; None for the reference itself."""
    if ran["kernels"] == "torch" and ran["index"] in ("exact", "none"):
        return None
    small = {"slots": min(case.slots, max(SMALL_SLOTS, 2 * case.heads, case.reads)), "steps": SMALL_STEPS, "mode": "train"}
    fast = Workload(case.model_copy(update=small))
    reference = Workload(case.model_copy(update={**small, "kernels": "torch", "index": "exact"}))
    reference.model.load_state_dict(fast.model.state_dict())
    expected, got = (_outputs_and_gradients(workload) for workload in (reference, fast))
    worst = max(relative_error(expected[name], got[name]) for name in expected)
    return Check(compared_with="kernels=torch, index=exact", max_rel_err=worst, ok=worst <= TOLERANCE[case.dtype])


def relative_error(expected: Tensor, got: Tensor) -> float:
    """RMS of the difference over RMS of the expected tensor; infinite if anything is not finite."""
    if not bool(torch.isfinite(got).all()):
        return float("inf")
    difference = (expected.double() - got.double()).square().mean().sqrt()
    return float(difference / expected.double().square().mean().sqrt().clamp_min(1e-12))


def _outputs_and_gradients(workload: Workload) -> dict[str, Tensor]:
    y, _ = workload.forward()
    workload.loss(y).backward()
    parameters: dict[str, Any] = dict(workload.model.named_parameters())
    return {"y": y.detach()} | {name: p.grad for name, p in parameters.items() if p.grad is not None}
