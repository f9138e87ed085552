"""Time: warm up until steady, sample until the median is known well enough or the budget ends, keep every sample in order."""

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from mann_bench.data.result import Interval, Record, Samples, Sensors, Timing
from mann_bench.measure.device import Device, PassTime

MAX_WARMUP = 8
STEADY = 0.1  # two passes that differ by less than this fraction are steady
FEWEST = 5  # samples below which no interval is believed


class Round(Record):
    """The passes of one round in order, and sensor readings before and after them."""

    passes: list[PassTime]
    sensors: list[Sensors] = Field(default_factory=list)

    @property
    def wall_ms(self) -> list[float]:
        """Wall-clock time of each pass."""
        return [time.wall_ms for time in self.passes]


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median and its 95% interval by order statistics (binomial ranks, normal approximation); the extremes for fewer than six samples."""
    ordered = sorted(samples)
    count = len(ordered)
    reach = 0.98 * math.sqrt(count)
    low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + reach)
    return statistics.median(ordered), ordered[max(0, low)], ordered[min(count - 1, high)]


def interval_over_rounds(rounds: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Median of all samples, and an interval as wide as the samples or the medians of the rounds ask for.

    Samples of one round share its moment; where the machine changed between rounds, their number alone would promise too much.
    """
    median, low, high = median_interval([value for samples in rounds for value in samples])
    _, low_round, high_round = median_interval([statistics.median(samples) for samples in rounds])
    return median, min(low, low_round), max(high, high_round)


def warm_up(device: Device, one_pass: Callable[[], None], between: Callable[[], None], budget_s: float) -> list[float]:
    """Run until two passes in a row agree, at most eight passes or the budget; their times in ms."""
    times_ms: list[float] = []
    start = device.clock()
    while len(times_ms) < MAX_WARMUP and (len(times_ms) < 2 or device.clock() - start < budget_s):
        between()
        times_ms.append(device.time(one_pass).wall_ms)
        if len(times_ms) >= 3 and abs(times_ms[-1] - times_ms[-2]) <= STEADY * times_ms[-2]:
            break
        if times_ms[0] > budget_s * 1e3:
            break
    return times_ms


def sample(
    device: Device, one_pass: Callable[[], None], between: Callable[[], None], budget_s: float, target: float, *, flush: bool = False
) -> Round:
    """One round: passes until the relative half-width of the median's interval is <= target or the budget ends; `between` is not timed."""
    passes: list[PassTime] = []
    sensors = [device.sensors()]
    start = device.clock()
    next_look = FEWEST
    while not passes or device.clock() - start < budget_s:
        between()
        if flush:
            device.flush_cache()
        passes.append(device.time(one_pass))
        if len(passes) == next_look:
            if steady_enough([one.wall_ms for one in passes], target):
                break
            next_look += max(FEWEST, len(passes) // 10)  # rarer as they grow: looking must not cost more than the passes
    sensors.append(device.sensors())
    return Round(passes=passes, sensors=[reading for reading in sensors if reading is not None])


def steady_enough(samples_ms: Sequence[float], target: float) -> bool:
    """Whether the median is known to within `target` of itself."""
    if len(samples_ms) < 2 * FEWEST:
        return False
    median, low, high = median_interval(samples_ms)
    return (high - low) / 2 <= target * median


def summarize(
    rounds: Sequence[Round],
    warmup_ms: list[float],
    steps: int,
    target: float,
    *,
    first_ms: float | None = None,
    cache: Literal["warm", "flushed"] = "warm",
) -> Timing:
    """All rounds of one case as a `Timing`; pass times in ms and per step."""
    walls = [taken.wall_ms for taken in rounds]
    reached = all(steady_enough(round_ms, target) for round_ms in walls)
    of_device = [[one.device_ms for one in taken.passes if one.device_ms is not None] for taken in rounds]
    issued = [one.issue_ms / one.wall_ms for taken in rounds for one in taken.passes if one.issue_ms is not None]
    pass_ms = _samples(walls)
    return Timing(
        pass_ms=pass_ms,
        step_ms=Interval(median=pass_ms.median / steps, ci_low=pass_ms.ci_low / steps, ci_high=pass_ms.ci_high / steps),
        device_ms=_samples(of_device) if all(of_device) else None,
        warmup_ms=warmup_ms,
        stop_reason=f"interval within {target:.0%} of the median" if reached else "time budget",
        first_ms=first_ms,
        round_counts=[len(taken.passes) for taken in rounds],
        issue_share=statistics.median(issued) if issued else None,
        cache=cache,
        sensors=[*rounds[0].sensors[:1], *(taken.sensors[-1] for taken in rounds if taken.sensors)],
    )


def split_rounds(samples: Sequence[float], counts: Sequence[int]) -> list[list[float]]:
    """The samples of each round; all of them as one where the rounds are not known."""
    rest = iter(samples)
    return [list(itertools.islice(rest, count)) for count in counts or [len(samples)]]


def _samples(rounds: list[list[float]]) -> Samples:
    samples = [value for values in rounds for value in values]
    median, low, high = interval_over_rounds(rounds)
    return Samples(median=median, ci_low=low, ci_high=high, min=min(samples), count=len(samples), samples=samples)
