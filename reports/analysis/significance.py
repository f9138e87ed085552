"""Two sets of raw time samples: how much slower is the second, how sure is that, and is it more than chance?

Samples of one process are not independent: a busy second of the machine slows several in a row. Two processes that were timed in turn
(A B B A) share their seconds, so the unit is a turn of both, and what is tested is the ratio within it. Of others the unit is a block of
consecutive samples, as long as the samples' own autocorrelation time. Pairs of processes are drawn before turns and blocks are, because a
process may be lucky as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Turns = Sequence[Sequence[float]]  # the samples of one process, turn by turn, in the order they were taken
Runs = Sequence[Turns]  # of each process

DRAWS = 2000
FEWEST_BLOCKS = 6  # of one process, however long its memory
FEWEST_TURNS = 5  # below which the ratios of the turns alone say too little
FEWEST_CASES = 8  # from which the spread over cases is known


@dataclass(frozen=True)
class Change:
    """`ratio` of the second's time to the first's (above 1: slower) with its 95% interval; `p_value` of both being the same, one test."""

    ratio: float
    low: float
    high: float
    p_value: float


def change(before: Runs, after: Runs, *, side_by_side: bool = True) -> Change:
    """Ratio of the medians, its interval by a bootstrap of pairs and of turns or blocks, and a rank test.

    The n-th process of one side is the partner of the n-th of the other; one without a partner is left out. With `side_by_side` the n-th
    turns of partners are partners too, where there are enough of them: the test is Wilcoxon's signed ranks of their ratios. Otherwise
    it is that of Mann and Whitney on block medians relative to the pair's own level (aligned ranks, Hodges and Lehmann 1962).
    """
    random = np.random.default_rng(0)  # the same samples give the same answer
    pairs = list(zip(before, after, strict=False))
    if side_by_side and all(len(old) == len(new) >= FEWEST_TURNS for old, new in pairs):
        per_turn = [np.array([log_median(b) - log_median(a) for a, b in zip(old, new, strict=True)]) for old, new in pairs]
        log_ratios = np.array([np.median(ratios) for ratios in per_turn])
        redrawn = np.stack([np.median(random.choice(ratios, (DRAWS, len(ratios))), axis=1) for ratios in per_turn])  # [pairs, DRAWS]
        differing = np.concatenate(per_turn)
        p_value = float(stats.wilcoxon(differing).pvalue) if differing.any() else 1.0
    else:
        flat = [(np.concatenate(old), np.concatenate(new)) for old, new in pairs]
        log_ratios = np.array([log_median(new) - log_median(old) for old, new in flat])
        redrawn = np.stack([_redrawn_log_medians(new, random) - _redrawn_log_medians(old, random) for old, new in flat])
        blocks = [_aligned(old, new) for old, new in flat]
        p_value = float(stats.mannwhitneyu(*(np.concatenate(side) for side in zip(*blocks, strict=True))).pvalue)
    chosen = random.integers(len(pairs), size=redrawn.shape)
    means = np.take_along_axis(redrawn, chosen, axis=0).mean(axis=0)
    spread = np.sqrt(len(pairs) / (len(pairs) - 1)) if len(pairs) > 1 else 1.0  # a bootstrap of few pairs is too narrow by this
    low, high = np.quantile(log_ratios.mean() + spread * (means - log_ratios.mean()), (0.025, 0.975))
    return Change(float(np.exp(log_ratios.mean())), float(np.exp(low)), float(np.exp(high)), p_value)


def widened(changes: Sequence[Change]) -> list[Change]:
    """The changes of runs that were made apart, each as unsure as the cases differ among themselves.

    A case's samples lie within seconds of each other and know nothing of the machine's other moods; the other cases met those. What most
    cases vary by (the median distance from their median ratio) is taken for the machine's, so only what stands out of it can be a
    change. A change of all cases alike is seen, but may be the machine's as well. Fewer than eight changes are left as they are.
    """
    if len(changes) < FEWEST_CASES:
        return list(changes)
    logs = np.log([one.ratio for one in changes])
    machine = float(stats.median_abs_deviation(logs, scale="normal"))
    found = []
    for one, log_ratio in zip(changes, logs, strict=True):
        down, up = (np.hypot(log_ratio - np.log(end), 1.96 * machine) for end in (one.low, one.high))
        deviation = np.hypot((np.log(one.high) - np.log(one.low)) / (2 * 1.96), machine)
        p_value = max(one.p_value, float(2 * stats.norm.sf(abs(log_ratio) / deviation))) if deviation else one.p_value
        found.append(Change(one.ratio, float(np.exp(log_ratio - down)), float(np.exp(log_ratio + up)), p_value))
    return found


def corrected(p_values: Sequence[float]) -> list[float]:
    """P-values of many cases tested at once, so that the share of false alarms among the alarms stays below what each is held to
    (Benjamini and Hochberg 1995).
    """
    return [float(p) for p in stats.false_discovery_control(p_values)] if p_values else []


def block_length(samples: Sequence[float] | Floats) -> int:
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


def block_medians(samples: Sequence[float] | Floats) -> Floats:
    """The median of each block of consecutive samples."""
    length = block_length(samples)
    return np.array([np.median(samples[i : i + length]) for i in range(0, len(samples) - length + 1, length)])


def log_median(samples: Sequence[float] | Floats) -> float:
    """Logarithm of the median."""
    return float(np.log(np.median(samples)))


def _aligned(before: Floats, after: Floats) -> tuple[Floats, Floats]:
    """Logarithms of both sides' block medians, relative to the level of the two together."""
    level = (log_median(before) + log_median(after)) / 2
    return np.log(block_medians(before)) - level, np.log(block_medians(after)) - level


def _redrawn_log_medians(samples: Floats, random: np.random.Generator) -> Floats:
    """Moving-block bootstrap of the median (Kuensch 1989)."""
    length = block_length(samples)
    blocks = -(-len(samples) // length)
    starts = random.integers(len(samples) - length + 1, size=(DRAWS, blocks))
    indices = (starts[..., None] + np.arange(length)).reshape(DRAWS, -1)[:, : len(samples)]
    return np.log(np.median(samples[indices], axis=1))
