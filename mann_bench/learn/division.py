"""How training runs are divided into shards: balanced by the time that formulas predict, alike on every host."""

from collections.abc import Sequence

from mann_bench.data.case import Case
from mann_bench.data.shards import Shard, divide
from mann_bench.learn.record import LearningCase
from mann_bench.measure.predict import START_S, pass_seconds, predicted_bytes

SIZES = ("slots", "word_size", "heads", "reads", "hidden", "batch")
STEPS_A_LEVEL = 4  # of a sequence: of most tasks a pattern is written and read, with a mark for each


def part_of_runs(cases: Sequence[LearningCase], shard: Shard | None) -> list[LearningCase]:
    """The runs of a shard, in their order; all of them without a shard."""
    if shard is None:
        return [*cases]
    return [cases[unit] for unit in divide([seconds_of(case) for case in cases], shard.count)[shard.number - 1]]


def seconds_of(case: LearningCase) -> float:
    """Seconds that a run trains, to the order of magnitude; nothing that a host may lack counts."""
    limit = float("inf") if case.seconds is None else case.seconds
    if case.sequences is None:
        return START_S + limit
    fields = case.model_dump(include={*SIZES, "model", "variant", "options", "kernels", "device", "fill"})
    index = case.index if ":" in case.index else "exact"
    step = Case.model_validate({"suite": "learning", **fields, "index": index, "steps": 1})
    step_s = pass_seconds(step, predicted_bytes(step) or {})
    steps = STEPS_A_LEVEL * sum(case.levels) / 2 * case.sequences / case.batch
    return START_S + min(limit, steps * step_s)
