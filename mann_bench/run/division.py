"""How a suite is divided into shards: whole comparisons, balanced by the time that formulas predict, alike on every host."""

import math
from collections.abc import Sequence
from typing import NamedTuple

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
    own = {case.case_id for unit in divide(weigh(suite).seconds, shard.count)[shard.number - 1] for case in parts[unit]}
    return suite.model_copy(update={"cases": [case for case in suite.cases if case.case_id in own]})


class Weighed(NamedTuple):
    """The predicted seconds of each comparison of a suite, and how many cases exceed the budget of memory and take none."""

    seconds: list[float]
    too_large: int

    @property
    def longest_s(self) -> float:
        """Seconds of the longest comparison."""
        return max(self.seconds, default=0.0)


def weigh(suite: Suite) -> Weighed:
    """Predict how long each comparison takes."""
    of_cases = [[_seconds(case, suite.budget) for case in part] for part in comparisons(suite.cases, suite.interleave)]
    return Weighed([sum(part) for part in of_cases], sum(not seconds for part in of_cases for seconds in part))


def shards_within(seconds: Sequence[float], limit_s: float) -> list[float]:
    """Seconds of each shard of the division into the fewest of which none takes longer than the limit, which no comparison exceeds."""
    count = max(1, math.ceil(sum(seconds) / limit_s - 1e-9))
    while True:
        shards = [sum(seconds[unit] for unit in part) for part in divide(seconds, count)]
        if max(shards) <= limit_s or count >= len(seconds):
            return shards
        count += 1


def _seconds(case: Case, budget: Budget) -> float:
    """Predicted seconds of a case; 0 if it exceeds the budget of memory, and is skipped.

    Nothing that a host may lack counts, or hosts would divide differently: an index whose library may be missing stands for the exact one.
    """
    prediction = predict(case.model_copy(update={"index": "exact"}) if ":" not in case.index else case, budget)
    too_large = prediction.total_bytes is not None and case.device == "cpu" and prediction.total_bytes > budget.memory
    return 0.0 if too_large else prediction.seconds
