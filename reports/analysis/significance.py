"""Two sets of raw time samples: the ratio of their medians, its interval, and a test of whether they differ.

Consecutive samples of one process are not independent: a busy second of the machine slows several of them. Two processes that were timed
in turn (A B B A) share such seconds; the unit of resampling is a round of both, and the ratio within a round is tested. Where rounds are
few, the unit is a block of consecutive samples, twice as long as their autocorrelation time. The bootstrap draws pairs of processes first
and rounds or blocks within them second, because a whole process may be faster than another by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Rounds = Sequence[Sequence[float]]  # samples of one process, grouped by round, in the order they were taken
Processes = Sequence[Rounds]

DRAWS = 2000
MIN_BLOCKS = 6  # of one process, however strong its autocorrelation
MIN_ROUNDS = 5  # with fewer, the ratios of the rounds are too few to test


@dataclass(frozen=True)
class Change:
    """The ratio of the second time to the first (above 1: slower) with its 95% interval; `p_value` of the null hypothesis of no change."""

    ratio: float
    low: float
    high: float
    p_value: float


def change(before: Processes, after: Processes) -> Change:
    """Estimate the ratio of the medians with a 95% bootstrap interval, and test it by ranks.

    The n-th processes of both sides form a pair, which was timed in turn; a process without a partner is left out. If all have the same
    number of rounds, at least `MIN_ROUNDS`, the n-th rounds of a pair are compared by Wilcoxon's signed-rank test. Otherwise block medians,
    relative to the common level of the pair, are compared by the test of Mann and Whitney (aligned ranks, Hodges and Lehmann 1962).
    """
    random = np.random.default_rng(0)  # fixed, so that equal samples give equal results
    pairs = list(zip(before, after, strict=False))
    if all(len(old) == len(new) >= MIN_ROUNDS for old, new in pairs):
        per_round = [np.array([log_median(b) - log_median(a) for a, b in zip(old, new, strict=True)]) for old, new in pairs]
        log_ratios = np.array([np.median(ratios) for ratios in per_round])
        resampled = np.stack([np.median(random.choice(ratios, (DRAWS, len(ratios))), axis=1) for ratios in per_round])  # [pairs, DRAWS]
        ratios = np.concatenate(per_round)
        p_value = float(stats.wilcoxon(ratios).pvalue) if ratios.any() else 1.0
    else:
        flat = [(Blocks(np.concatenate(old)), Blocks(np.concatenate(new))) for old, new in pairs]
        log_ratios = np.array([new.log_median - old.log_median for old, new in flat])
        resampled = np.stack([new.resampled_log_medians(random) - old.resampled_log_medians(random) for old, new in flat])
        blocks = [_aligned(old, new) for old, new in flat]
        p_value = float(stats.mannwhitneyu(*(np.concatenate(side) for side in zip(*blocks, strict=True))).pvalue)
    drawn_pairs = random.integers(len(pairs), size=resampled.shape)
    means = np.take_along_axis(resampled, drawn_pairs, axis=0).mean(axis=0)
    spread = np.sqrt(len(pairs) / (len(pairs) - 1)) if len(pairs) > 1 else 1.0  # corrects a bootstrap of few pairs
    low, high = np.quantile(log_ratios.mean() + spread * (means - log_ratios.mean()), (0.025, 0.975))
    return Change(float(np.exp(log_ratios.mean())), float(np.exp(low)), float(np.exp(high)), p_value)


def corrected(p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of several tests to control the false discovery rate (Benjamini and Hochberg 1995)."""
    return [float(p) for p in stats.false_discovery_control(p_values)] if p_values else []


def block_length(samples: Sequence[float] | Floats) -> int:
    """Return how many consecutive samples form a block that is nearly independent of the next.

    1 for independent samples, else twice the autocorrelation time, which is 1 + 2 * the sum of the autocorrelations up to the first one
    below 0.05. They are computed from ranks, so that a single outlier does not hide the pattern. At most a sixth of the samples.
    """
    ranks = stats.rankdata(samples)
    centred = ranks - ranks.mean()
    power = float(centred @ centred)
    total = 1.0
    for lag in range(1, len(ranks) // 2):
        correlation = float(centred[:-lag] @ centred[lag:]) / power if power else 0.0
        if correlation < 0.05:
            break
        total += 2 * correlation
    length = 1 if total < 1.5 else round(2 * total)
    return int(np.clip(length, 1, max(1, len(ranks) // MIN_BLOCKS)))


def log_median(samples: Sequence[float] | Floats) -> float:
    """Return the logarithm of the median."""
    return float(np.log(np.median(samples)))


class Blocks:
    """The samples of one process and the length of their blocks, which takes longer to find out than the rest."""

    def __init__(self, samples: Floats) -> None:
        self.samples = samples
        self.length = block_length(samples)
        self.log_median = log_median(samples)

    @property
    def medians(self) -> Floats:
        """The median of each whole block of consecutive samples."""
        if self.length == 1:
            return self.samples
        whole = len(self.samples) // self.length
        return np.asarray(np.median(self.samples[: whole * self.length].reshape(whole, self.length), axis=1))

    def resampled_log_medians(self, random: np.random.Generator) -> Floats:
        """Log medians [DRAWS] of a moving-block bootstrap (Kuensch 1989)."""
        blocks = -(-len(self.samples) // self.length)
        starts = random.integers(len(self.samples) - self.length + 1, size=(DRAWS, blocks))
        indices = (starts[..., None] + np.arange(self.length)).reshape(DRAWS, -1)[:, : len(self.samples)]
        return np.asarray(np.log(np.median(self.samples[indices], axis=1)))


def _aligned(before: Blocks, after: Blocks) -> tuple[Floats, Floats]:
    """The log block medians of both sides, less the mean of their log medians."""
    level = (before.log_median + after.log_median) / 2
    return np.log(before.medians) - level, np.log(after.medians) - level
