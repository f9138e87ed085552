"""Who needs fewer sequences or less time to the goal: ratio of medians with its interval, log-rank test, and what they decide.

A seed that did not reach the goal is censored: it needs more than it was trained on. The ratio is decided where its 95% interval does not
hold 1. With fewer than MIN_SEEDS seeds no interval of a median can be one of 95%, and nothing is decided.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from mann_bench.reports.learning.experiments import Curve, Floats, ToGoal, median_of, resampled_medians

if TYPE_CHECKING:
    from scipy.stats import CensoredData

MIN_SEEDS = 6  # the range of n values misses their median with probability 2 / 2^n: below 5% from n = 6 on

Decision = Literal["more", "fewer", "not decided"]


class GoalRatio(NamedTuple):
    """How many times more one curve needs than another, with a 95% bootstrap interval.

    A seed that ended before its goal may need any more than it had: it widens the interval, whose upper end may be infinite.

    `bound` is "at least" or "at most" if one of them did not reach the goal, so that its limit stands in for it; else "".
    """

    value: float
    low: float
    high: float
    bound: str


class Step(NamedTuple):
    """The Kaplan-Meier estimate: `share` of the seeds are not at the goal from `sequences` on."""

    sequences: float
    share: float


def ratio(base: Curve, subject: Curve, what: ToGoal) -> GoalRatio | None:
    """Return how many times more `base` needs to its goal than `subject`; None if neither reached it, or for seconds of several hosts."""
    if what == "seconds" and on_several_hosts(base, subject):
        return None
    base_never, subject_never = (np.isinf(curve.to_goal(what).value) for curve in (base, subject))
    if not base.trained or not subject.trained or (base_never and subject_never):
        return None
    (least, reached), (subject_least, subject_reached) = (_reached_or_limit(curve, what) for curve in (base, subject))
    most, subject_most = np.where(reached, least, np.inf), np.where(subject_reached, subject_least, np.inf)
    bound = "at least" if base_never else "at most" if subject_never else ""
    lowest = resampled_medians(least, 1) / resampled_medians(subject_most, 2)
    highest = resampled_medians(most, 1) / resampled_medians(subject_least, 2)
    low, high = np.quantile(lowest, 0.025, method="nearest"), np.quantile(highest, 0.975, method="nearest")
    return GoalRatio(median_of(least) / median_of(subject_least), float(low), float(high), bound)


def decide(base: Curve, subject: Curve, found: GoalRatio | None) -> Decision:
    """Decide whether `base` needs more or fewer than `subject`, by the interval of their ratio."""
    if found is None or few_seeds(base, subject):
        return "not decided"
    return "more" if found.low > 1 else "fewer" if found.high < 1 else "not decided"


def on_several_hosts(*curves: Curve) -> bool:
    """Whether the trained runs of the curves come from more than one host, so that their seconds say nothing about the models."""
    return len({run.host for curve in curves for run in curve.trained if run.host}) > 1


def few_seeds(*curves: Curve) -> bool:
    """Whether a curve has fewer than MIN_SEEDS trained seeds."""
    return min(len(curve.trained) for curve in curves) < MIN_SEEDS


def log_rank(base: Curve, subject: Curve) -> float | None:
    """p of the log-rank test that both reach the goal alike in sequences; None where nothing can be tested."""
    if not base.trained or not subject.trained:
        return None
    from scipy import stats  # takes a second, which a report without training runs does not need

    with np.errstate(all="ignore"):  # 0 / 0 where no seed reached the goal, or all did at the last moment
        p = float(stats.logrank(_sample(base), _sample(subject)).pvalue)
    return p if np.isfinite(p) else None


def not_at_goal(curve: Curve) -> list[Step]:
    """Kaplan-Meier estimate of the share of seeds that are not at the goal, from (0, 1) to the last seed's end."""
    from scipy import stats

    estimate = stats.ecdf(_sample(curve)).sf
    steps = [Step(float(x), float(share)) for x, share in zip(estimate.quantiles, estimate.probabilities, strict=True)]
    return [Step(0.0, 1.0), *steps]


def _sample(curve: Curve) -> "CensoredData":
    from scipy.stats import CensoredData

    values, reached = _reached_or_limit(curve, "sequences")
    return CensoredData.right_censored(values, ~reached)


def _reached_or_limit(curve: Curve, what: ToGoal) -> tuple[Floats, np.ndarray]:
    """What each seed needed, or had without reaching the goal, and which seeds reached it."""
    if what == "sequences":
        needs: list[tuple[float | None, float]] = [(run.sequences_to_goal, run.sequences) for run in curve.trained]
    else:
        needs = [(run.seconds_to_goal, run.curve[-1].wall_s) for run in curve.trained]
    values = np.array([limit if goal is None else goal for goal, limit in needs], dtype=float)
    return values, np.array([goal is not None for goal, _ in needs])
