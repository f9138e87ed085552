"""What a suite will take, before any of it runs: predicted bytes from the model's own formula, time from a rough one."""

from dataclasses import dataclass

import torch

from mann_bench.data.case import Case
from mann_bench.data.registry import BUILT_INS, KINDS, import_target
from mann_bench.data.suite import Budget
from mann_bench.kernels.index import Unavailable

START_S = 3.0  # a process imports torch and builds its model
STEP_S = 1.5e-3  # a time step of a Python loop over small tensors, forward and backward
BYTES_PER_S = 4e9  # what one thread moves while it computes, within a factor of three
PASSES_BEFORE_TIMING = 6  # memory passes and warm-up


@dataclass(frozen=True)
class Prediction:
    """Of one case: bytes by cause of one pass (None if the model does not say), seconds all in."""

    bytes_by_cause: dict[str, int] | None
    seconds: float

    @property
    def total_bytes(self) -> int | None:
        """All causes together."""
        return sum(self.bytes_by_cause.values()) if self.bytes_by_cause is not None else None


def predict(case: Case, budget: Budget) -> Prediction:
    """Bytes by the model's `memory_bytes`, built on torch's meta device; seconds to the order of magnitude."""
    by_cause = predicted_bytes(case)
    pass_s = case.steps * STEP_S
    if by_cause is not None:
        moved = 4 * by_cause.get("tape", 0) + case.steps * by_cause.get("state", 0)
        pass_s += moved / BYTES_PER_S
    timing_s = max(pass_s * budget.rounds, min(budget.timing_seconds, 100 * pass_s))
    return Prediction(by_cause, min(budget.case_seconds, START_S + PASSES_BEFORE_TIMING * pass_s + timing_s))


def predicted_bytes(case: Case) -> dict[str, int] | None:
    """`model.memory_bytes` for the case; None for a model that is not ours, which is built in its own process only: it may do anything, and
    for an index that cannot be had here.
    """
    kind = case.model.partition(":")[0]
    if kind not in KINDS and case.model not in BUILT_INS:
        return None
    try:
        if kind in KINDS:
            by_cause: dict[str, int] | None = import_target(kind, KINDS[kind]).predicted_bytes(case)
            return by_cause
        with torch.device("meta"):
            model = BUILT_INS[case.model].build(case)
        predicted = model.memory_bytes(case.batch, case.steps, case.mode)
    except (ValueError, Unavailable):  # refused sizes, a missing library: the case will be recorded as such
        return None
    item = getattr(torch, case.dtype).itemsize
    return {cause: size * item // 4 for cause, size in predicted.items()}
