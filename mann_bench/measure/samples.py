"""Times of passes as numbers: the median of rounds with its interval, and from when on it is believed. Needs no torch."""

import itertools
import math
import statistics
from collections.abc import Sequence

MAX_WARMUP = 8  # passes
STEADY = 0.1  # relative difference of two passes up to which timing counts as steady
FEWEST = 5  # samples; an interval from fewer is not believed


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median and its 95% interval by order statistics (binomial ranks, normal approximation); minimum and maximum below six samples."""
    ordered = sorted(samples)
    count = len(ordered)
    reach = 0.98 * math.sqrt(count)
    low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + reach)
    return statistics.median(ordered), ordered[max(0, low)], ordered[min(count - 1, high)]


def interval_over_rounds(rounds: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Median of all samples; the interval is the hull of the samples' 95% interval and that of the rounds' medians.

    Samples of one round are not independent: if the machine changed between rounds, their number alone would make the interval too narrow.
    """
    median, low, high = median_interval([value for samples in rounds for value in samples])
    _, low_round, high_round = median_interval([statistics.median(samples) for samples in rounds])
    return median, min(low, low_round), max(high, high_round)


def split_rounds(samples: Sequence[float], counts: Sequence[int]) -> list[list[float]]:
    """The samples of each round; a single round of all if the counts are unknown."""
    remaining = iter(samples)
    return [list(itertools.islice(remaining, count)) for count in counts or [len(samples)]]
