"""Time: warm up until steady, sample until the median is known well enough or the budget ends, keep every sample in order."""

import math
import statistics
import time
from collections.abc import Callable, Sequence

from mann_bench.result import Interval, Samples, Timing

Clock = Callable[[], float]  # seconds, monotonic

MAX_WARMUP = 8
STEADY = 0.1  # two passes that differ by less than this fraction are steady
FEWEST = 5  # samples below which no interval is believed


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median and its 95% interval by order statistics (binomial ranks, normal approximation); the extremes for fewer than six samples."""
    ordered = sorted(samples)
    count = len(ordered)
    reach = 0.98 * math.sqrt(count)
    low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + reach)
    return statistics.median(ordered), ordered[max(0, low)], ordered[min(count - 1, high)]


def warm_up(one_pass: Callable[[], None], budget_s: float, clock: Clock = time.perf_counter) -> list[float]:
    """Run until two passes in a row agree, at most eight passes or the budget; their times in ms, the first call (builds) first."""
    times_ms: list[float] = []
    start = clock()
    while len(times_ms) < MAX_WARMUP and (len(times_ms) < 2 or clock() - start < budget_s):
        began = clock()
        one_pass()
        times_ms.append((clock() - began) * 1e3)
        if len(times_ms) >= 3 and abs(times_ms[-1] - times_ms[-2]) <= STEADY * times_ms[-2]:
            break
        if times_ms[0] > budget_s * 1e3:
            break
    return times_ms


def sample(
    one_pass: Callable[[], None], between: Callable[[], None], budget_s: float, target: float, clock: Clock = time.perf_counter
) -> list[float]:
    """One round: times in ms, in order, until the relative half-width of the median's interval is <= target or the budget ends."""
    times_ms: list[float] = []
    start = clock()
    while not times_ms or clock() - start < budget_s:
        between()
        began = clock()
        one_pass()
        times_ms.append((clock() - began) * 1e3)
        if len(times_ms) >= FEWEST and len(times_ms) % FEWEST == 0 and steady_enough(times_ms, target):
            break
    return times_ms


def steady_enough(samples_ms: Sequence[float], target: float) -> bool:
    """Whether the median is known to within `target` of itself."""
    median, low, high = median_interval(samples_ms)
    return len(samples_ms) >= 2 * FEWEST and (high - low) / 2 <= target * median


def summarize(rounds_ms: Sequence[Sequence[float]], warmup_ms: list[float], steps: int, target: float) -> Timing:
    """All rounds of one case as a `Timing`; pass times in ms and per step."""
    samples = [value for round_ms in rounds_ms for value in round_ms]
    median, low, high = median_interval(samples)
    reached = steady_enough(samples, target)
    return Timing(
        pass_ms=Samples(median=median, ci_low=low, ci_high=high, min=min(samples), count=len(samples), samples=samples),
        step_ms=Interval(median=median / steps, ci_low=low / steps, ci_high=high / steps),
        warmup_ms=warmup_ms,
        stop_reason=f"interval within {target:.0%} of the median" if reached else "time budget",
    )
