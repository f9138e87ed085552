"""Time: warm up until steady, then sample until the median is precise enough or the budget ends. All samples are kept, in order."""

import statistics
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from mann_bench.data.result import Interval, Record, Samples, Sensors, Timing
from mann_bench.measure.device import Device, PassTime
from mann_bench.measure.samples import FEWEST, MAX_WARMUP, STEADY, interval_over_rounds, median_interval


class Round(Record):
    """The passes of one round in order, sensor readings before and after them, and what the model has changed by then."""

    passes: list[PassTime]
    sensors: list[Sensors] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)

    @property
    def wall_ms(self) -> list[float]:
        """Wall-clock time of each pass."""
        return [time.wall_ms for time in self.passes]


def warm_up(device: Device, one_pass: Callable[[], None], between: Callable[[], None], budget_s: float) -> list[float]:
    """Run passes until two in a row agree, MAX_WARMUP are done or the budget ends; returns their times in ms."""
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
    """Time the passes of one round.

    Args:
        between: run before each pass, not timed.
        budget_s: time after which no further pass begins.
        target: relative half-width of the median's interval at which the round ends early.
        flush: empty the cache before each pass.
    """
    passes: list[PassTime] = []
    sensors = [device.sensors()]
    start = device.clock()
    next_check = FEWEST
    while not passes or device.clock() - start < budget_s:
        between()
        if flush:
            device.flush_cache()
        passes.append(device.time(one_pass))
        if len(passes) == next_check:
            if steady_enough([time.wall_ms for time in passes], target):
                break
            next_check += max(FEWEST, len(passes) // 10)  # ever rarer: checks sort all samples and must not take longer than passes
    sensors.append(device.sensors())
    return Round(passes=passes, sensors=[reading for reading in sensors if reading is not None])


def steady_enough(samples_ms: Sequence[float], target: float) -> bool:
    """Return whether the half-width of the median's interval is at most `target` times the median."""
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
    """Summarize all rounds of one case; `steps` is T, `target` as for `sample`."""
    wall_ms = [finished.wall_ms for finished in rounds]
    reached = all(steady_enough(times, target) for times in wall_ms)
    device_ms = [[time.device_ms for time in finished.passes if time.device_ms is not None] for finished in rounds]
    issue_shares = [time.issue_ms / time.wall_ms for finished in rounds for time in finished.passes if time.issue_ms is not None]
    pass_ms = _samples(wall_ms)
    return Timing(
        pass_ms=pass_ms,
        step_ms=Interval(median=pass_ms.median / steps, ci_low=pass_ms.ci_low / steps, ci_high=pass_ms.ci_high / steps),
        device_ms=_samples(device_ms) if all(device_ms) else None,
        warmup_ms=warmup_ms,
        stop_reason=f"interval within {target:.0%} of the median" if reached else "time budget",
        first_ms=first_ms,
        round_counts=[len(finished.passes) for finished in rounds],
        issue_share=statistics.median(issue_shares) if issue_shares else None,
        cache=cache,
        sensors=[*rounds[0].sensors[:1], *(finished.sensors[-1] for finished in rounds if finished.sensors)],
    )


def _samples(rounds: list[list[float]]) -> Samples:
    samples = [value for values in rounds for value in values]
    median, low, high = interval_over_rounds(rounds)
    return Samples(median=median, ci_low=low, ci_high=high, min=min(samples), count=len(samples), samples=samples)
