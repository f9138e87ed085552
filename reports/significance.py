"""Two sets of raw time samples: how much slower is the second, how sure is that, and is it more than chance?

Samples of one process are not independent: a busy second of the machine slows several in a row. So the unit of every test here is a
block of consecutive samples, as long as the samples' own autocorrelation time. Processes that ran side by side are compared with each
other, and pairs are drawn before blocks are, because a process may be lucky as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Runs = Sequence[Sequence[float]]  # the samples of each process, in the order they were taken

DRAWS = 2000
FEWEST_BLOCKS = 6  # of one process, however long its memory


@dataclass(frozen=True)
class Change:
    """`ratio` of the second's time to the first's (above 1: slower) with its 95% interval; `p_value` of both being the same, one test."""

    ratio: float
    low: float
    high: float
    p_value: float


def change(before: Runs, after: Runs) -> Change:
    """Ratio of the medians, its interval by a bootstrap of pairs and blocks, and a rank test (Mann-Whitney) on block medians.

    The n-th process of one side is the partner of the n-th of the other; one without a partner is left out. Each pair's samples are
    taken relative to the pair's own level (aligned ranks, Hodges and Lehmann 1962): a slow minute is not held against either.
    """
    random = np.random.default_rng(0)  # the same samples give the same answer
    pairs = list(zip(before, after, strict=False))
    log_ratios = np.array([log_median(new) - log_median(old) for old, new in pairs])
    redrawn = np.stack([_redrawn_log_medians(new, random) - _redrawn_log_medians(old, random) for old, new in pairs])  # [pairs, DRAWS]
    chosen = random.integers(len(pairs), size=redrawn.shape)
    means = np.take_along_axis(redrawn, chosen, axis=0).mean(axis=0)
    spread = np.sqrt(len(pairs) / (len(pairs) - 1)) if len(pairs) > 1 else 1.0  # a bootstrap of few pairs is too narrow by this
    low, high = np.quantile(log_ratios.mean() + spread * (means - log_ratios.mean()), (0.025, 0.975))
    blocks = [_aligned(old, new) for old, new in pairs]
    p_value = float(stats.mannwhitneyu(*(np.concatenate(side) for side in zip(*blocks, strict=True))).pvalue)
    return Change(float(np.exp(log_ratios.mean())), float(np.exp(low)), float(np.exp(high)), p_value)


def corrected(p_values: Sequence[float]) -> list[float]:
    """P-values of many cases tested at once, so that the share of false alarms among the alarms stays below what each is held to
    (Benjamini and Hochberg 1995).
    """
    return [float(p) for p in stats.false_discovery_control(p_values)] if p_values else []


def block_length(samples: Sequence[float]) -> int:
    """How many consecutive samples make a block that knows little of the next: 1 where samples are independent, else twice the
    autocorrelation time, 1 + 2 sum of the autocorrelations up to the first below 0.05.

    Of ranks, so that a single outlier does not hide the pattern; at most a sixth of the samples.
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
    return int(np.clip(length, 1, max(1, len(ranks) // FEWEST_BLOCKS)))


def block_medians(samples: Sequence[float]) -> Floats:
    """The median of each block of consecutive samples."""
    length = block_length(samples)
    return np.array([np.median(samples[i : i + length]) for i in range(0, len(samples) - length + 1, length)])


def log_median(samples: Sequence[float]) -> float:
    """Logarithm of the median."""
    return float(np.log(np.median(samples)))


def _aligned(before: Sequence[float], after: Sequence[float]) -> tuple[Floats, Floats]:
    """Logarithms of both sides' block medians, relative to the level of the two together."""
    level = (log_median(before) + log_median(after)) / 2
    return np.log(block_medians(before)) - level, np.log(block_medians(after)) - level


def _redrawn_log_medians(samples: Sequence[float], random: np.random.Generator) -> Floats:
    """Moving-block bootstrap of the median (Kuensch 1989)."""
    values = np.asarray(samples, dtype=float)
    length = block_length(samples)
    blocks = -(-len(values) // length)
    starts = random.integers(len(values) - length + 1, size=(DRAWS, blocks))
    indices = (starts[..., None] + np.arange(length)).reshape(DRAWS, -1)[:, : len(values)]
    return np.log(np.median(values[indices], axis=1))
