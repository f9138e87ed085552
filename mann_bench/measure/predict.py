"""Predict what a case takes before it runs: bytes by the model's own formula, time by a rough one."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from mann_bench.data.case import Case
from mann_bench.data.registry import KINDS, NATIVE_CHECKPOINTED, SHIPPED, find_model
from mann_bench.data.suite import Budget
from mann_bench.kernels.index import INDEXES, Exact, Unavailable
from mann_bench.measure.workload import workload_class

START_S = 3.0  # a process imports torch and builds its model
STEP_S = 1.5e-3  # a time step of a Python loop over small tensors, forward and backward
NATIVE_STEP_S = 5e-5  # a time step of native kernels, a batch element, without what they read of a memory of many rows
INDEXED_ROW_S = 3e-6  # a row, when an index is built
BYTES_PER_S = 4e9  # memory traffic of one thread that computes, within a factor of three
PASSES_BEFORE_TIMING = 6  # memory passes and warm-up


@dataclass(frozen=True)
class Prediction:
    """Bytes of one pass by cause (None if there is no formula), and seconds of the whole case, start and warm-up included."""

    bytes_by_cause: dict[str, int] | None
    seconds: float

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all causes together."""
        return sum(self.bytes_by_cause.values()) if self.bytes_by_cause is not None else None


def predict(case: Case, budget: Budget) -> Prediction:
    """Predict bytes by `predicted_bytes`, and seconds to the order of magnitude."""
    by_cause = predicted_bytes(case)
    pass_s = pass_seconds(case, by_cause or {})
    timing_s = max(pass_s * budget.rounds, min(budget.timing_seconds, 100 * pass_s))
    start_s = START_S + index_seconds(case)
    return Prediction(by_cause, min(budget.case_seconds, start_s + PASSES_BEFORE_TIMING * pass_s + timing_s))


def pass_seconds(case: Case, by_cause: Mapping[str, int]) -> float:
    """Seconds of a pass, to the order of magnitude."""
    if case.model == "index:build":
        return case.steps * index_seconds(case)
    moved_bytes = 4 * by_cause.get("tape", 0) + case.steps * step_bytes(case, by_cause.get("state", 0))
    return case.steps * (case.batch * NATIVE_STEP_S if runs_natively(case) else STEP_S) + moved_bytes / BYTES_PER_S


def step_bytes(case: Case, state_bytes: int) -> int:
    """Bytes of a state of so many that a step reads: all, or next to none where an index or product keys say which rows."""
    known = workload_class(case).moved_bytes(case) if is_own(case) else None
    return known if known is not None else state_bytes if reads_all_rows(case) else 0


def reads_all_rows(case: Case) -> bool:
    """Whether a step reads all rows of the memory."""
    entry = find_model(case.model)
    if uses_index(case):
        scan = scan_of(case)
        return scan is not None and (scan.scan_all or case.fill == "full")
    return not entry.squares or bool(entry.package)  # a package may copy its memory at every step


def uses_index(case: Case) -> bool:
    """Whether rows are found by the case's index."""
    return case.model.startswith("index:") or find_model(case.model).uses_index


def scan_of(case: Case) -> type[Exact] | None:
    """The case's index if it scores the rows one after the other, so that none is built over them."""
    kind = INDEXES.get(case.index)
    return kind if kind is not None and issubclass(kind, Exact) else None


def index_seconds(case: Case) -> float:
    """Seconds that building the index takes."""
    return case.batch * case.slots * INDEXED_ROW_S if uses_index(case) and scan_of(case) is None else 0


def runs_natively(case: Case) -> bool:
    """Whether native kernels run on the CPU, as far as the case says."""
    if case.kernels == "torch" or case.device != "cpu" or not is_own(case):
        return False
    if uses_index(case) and not (case.index in INDEXES and INDEXES[case.index].in_sequence):
        return False  # a library's, or a name that no index has
    return case.model.partition(":")[0] in KINDS or (bool(find_model(case.model).native) and case.variant in ("plain", NATIVE_CHECKPOINTED))


def predicted_bytes(case: Case) -> dict[str, int] | None:
    """Bytes of one pass by cause, as the case's workload predicts them.

    None for a user's model or index, whose code only its own process may run, and for sizes or an index that cannot be built here: the
    case itself will record why.
    """
    if not is_own(case):
        return None
    try:
        return workload_class(case).predicted_bytes(case)
    except (ValueError, Unavailable):
        return None


def why_unbuildable(case: Case) -> str | None:
    """Why a case can never be built, whatever the machine: a name that does not exist, or sizes that do not fit; None if it can, as far
    as is known without running a user's code."""
    if not is_own(case):
        return missing_modules(find_model(case.model).target, case.index)
    try:
        workload_class(case).predicted_bytes(case)
    except ValueError as error:
        return str(error)
    except Unavailable:
        return None
    return None


def why_not_options(case: Case) -> str | None:
    """Which option has a value that the constructor of a built-in model refuses, in its words; None if it takes all, or if other sizes
    of the case do not fit."""
    problem = why_unbuildable(case) if case.options and is_own(case) else None
    return f"{case.model}: {problem}" if problem and problem.partition(":")[0] in case.options else None


def missing_modules(*names: str) -> str | None:
    """Which modules are not here of those that are written as `package.module:name`, in words; None if all are. None is imported."""
    modules = [name.partition(":")[0].partition(".")[0] for name in names if ":" in name]
    return "; ".join(f"there is no module {module!r} here" for module in modules if not module_exists(module)) or None


def module_exists(name: str) -> bool:
    """Whether a case's own process could import a module of that name, which has no dots; `__main__` is its own there."""
    return name not in ("", "__main__") and importlib.util.find_spec(name) is not None


def is_own(case: Case) -> bool:
    """Whether the case runs no code but mann-bench's: its model is built in, an op or an index, and so is the index that it searches."""
    return (case.model.partition(":")[0] in KINDS or case.model in SHIPPED) and ":" not in case.index
