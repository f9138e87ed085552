"""How a suite is divided into shards: whole comparisons, balanced by the time that formulas predict, alike on every host."""

from mann_bench.data.case import Case
from mann_bench.data.shards import Shard, divide
from mann_bench.data.suite import Budget, Suite
from mann_bench.measure.predict import predict
from mann_bench.run.runner import comparisons


def part_of(suite: Suite, shard: Shard | None) -> Suite:
    """The suite with the cases of a shard only, in their order; all of them without a shard."""
    if shard is None:
        return suite
    parts = comparisons(suite.cases, suite.interleave)
    own = {case.case_id for unit in divide(seconds_of(parts, suite.budget), shard.count)[shard.number - 1] for case in parts[unit]}
    return suite.model_copy(update={"cases": [case for case in suite.cases if case.case_id in own]})


def seconds_of(parts: list[list[Case]], budget: Budget) -> list[float]:
    """Predicted seconds of each comparison."""
    return [sum(_seconds(case, budget) for case in part) for part in parts]


def _seconds(case: Case, budget: Budget) -> float:
    """Predicted seconds of a case; 0 if it exceeds the budget of memory, and is skipped.

    Nothing that a host may lack counts, or hosts would divide differently: an index whose library may be missing stands for the exact one.
    """
    prediction = predict(case.model_copy(update={"index": "exact"}) if ":" not in case.index else case, budget)
    too_large = prediction.total_bytes is not None and case.device == "cpu" and prediction.total_bytes > budget.memory
    return 0.0 if too_large else prediction.seconds
