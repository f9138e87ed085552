"""How far beyond the trained levels a curve is still better than chance."""

from dataclasses import dataclass

from mann_bench.reports.learning.experiments import Curve, Experiment

CLEARLY_BETTER = 0.9  # an error below this fraction of chance, in every seed, is better than chance


@dataclass(frozen=True)
class Beyond:
    """The highest `level` above the `trained` one up to which a curve is better than chance, 0 if there is none; median error there.

    `is_last`: no higher level was tested.
    """

    trained: int
    level: int
    error: float
    chance: float
    is_last: bool


def better_than_chance(experiment: Experiment, curve: Curve) -> Beyond | None:
    """Find the highest level up to which every seed beats chance by a tenth or more; None if no level beyond the training was tested."""
    measured = experiment.evaluations.dropna(subset=["error", "chance"])
    measured = measured[(measured["group"] == -1) & (measured["curve"] == curve.name)]
    trained = experiment.trained_level(curve)
    beyond = measured[measured["level"] > trained].groupby("level")
    better = beyond["error"].max() < CLEARLY_BETTER * beyond["chance"].max()
    if better.empty:
        return None
    reached = better.index[better.cummin()]  # levels below the first that is not better
    if reached.empty:
        return Beyond(trained, 0, float("nan"), float("nan"), False)
    level = int(reached[-1])
    rows = measured[measured["level"] == level]
    return Beyond(trained, level, float(rows["error"].median()), float(rows["chance"].max()), level == measured["level"].max())
