"""What a reader should take away from training runs, in sentences."""

from dataclasses import dataclass

import numpy as np

from mann_bench.data.units import format_duration, format_times
from mann_bench.reports.learning.babi import TEST_ERRORS
from mann_bench.reports.learning.experiments import Curve, Estimate, Experiment, ratio
from mann_bench.reports.learning.selection import select
from mann_bench.reports.learning.tables import (
    SHOWN_INSTANCES,
    babi_errors,
    error_text,
    percent,
    ratio_text,
    reference,
    run_length,
    whole,
)

CLEARLY = 0.9  # of chance: an error below it, in every seed, is better than chance


def sentences(experiment: Experiment) -> list[str]:
    """The main results first."""
    said = [*_curriculum(experiment)] if experiment.has_curriculum else []
    if experiment.case.task == "babi":
        said += [*_babi(experiment), run_length(experiment)] if any(curve.trained for curve in experiment.curves) else []
    elif experiment.case.task == "omniglot":
        said += _one_shot(experiment)
    if not experiment.has_curriculum and experiment.case.task != "babi":
        said += [_goal(experiment), *_ratios(experiment)]
    if experiment.case.task not in ("babi", "omniglot"):
        said += _generalization(experiment)
    said += _selection(experiment)
    return [sentence for sentence in said if sentence] or ["Nothing was trained; the reasons are below."]


def coverage(experiments: list[Experiment]) -> str:
    """How many runs there are, and how many did not end as planned."""
    runs = [run for experiment in experiments for run in experiment.runs]
    bad = sum(run.status not in ("ok", "budget") for run in runs)
    text = "1 training run" if len(runs) == 1 else f"{len(runs)} training runs"
    return text + (f"; {bad} did not train to the end, for the reasons below." if bad else ".")


def _goal(experiment: Experiment) -> str:
    """Who got there and after how much."""
    parts = []
    for curve in (curve for curve in experiment.curves if curve.trained):
        found = curve.to_goal("sequences")
        if np.isfinite(found.value):
            seconds = curve.to_goal("seconds").value
            parts.append(f"{curve.name} in {_seeds(found)} after {whole(found.value)} sequences ({format_duration(seconds)})")
        else:
            parts.append(f"{curve.name} in {_seeds(found)} within {whole(found.limit)}")
    return f"Below {experiment.case.goal:g} bits: {'; '.join(parts)}." if parts else ""


def _seeds(found: Estimate) -> str:
    return f"{found.reached} of {found.seeds} seed{'s' if found.seeds > 1 else ''}"


def _ratios(experiment: Experiment) -> list[str]:
    """Sequences and time of the others, times SAM's."""
    sam = reference(experiment)
    said = []
    for curve in (curve for curve in experiment.curves if sam and curve is not sam):
        sequences, seconds = (ratio(curve, sam, "sequences"), ratio(curve, sam, "seconds")) if sam else (None, None)
        if sam and sequences and seconds and not (sequences[3] == "at least" and sequences[0] < 1):  # that would say nothing
            said.append(
                f"{curve.name} needs {ratio_text(sequences)} times the sequences of {sam.name}, {ratio_text(seconds)} times its time."
            )
    return said


def _curriculum(experiment: Experiment) -> list[str]:
    """How far each came in the same time."""
    seconds = experiment.common_seconds
    parts = []
    for curve in (curve for curve in experiment.curves if curve.trained):
        levels = curve.levels_at(seconds)
        spread = f" ({levels[0]:,} to {levels[-1]:,} over {len(levels)} seeds)" if len(levels) > 1 else ""
        parts.append(f"{curve.name} {whole(float(np.median(levels)))}{spread}")
    return [f"Highest level after {format_duration(seconds)} of training, in {experiment.unit}: {'; '.join(parts)}."] if parts else []


@dataclass(frozen=True)
class Beyond:
    """The highest level above the `trained` one up to which a curve is better than chance; `is_last`: none above it was tested."""

    trained: int
    level: int
    error: float
    chance: float
    is_last: bool


def better_than_chance(experiment: Experiment, curve: Curve) -> Beyond | None:
    """How far beyond its training, by a tenth or more in every seed: `level` 0 is nowhere; None where nothing was tested there."""
    measured = experiment.evaluations.dropna(subset=["error", "chance"])
    measured = measured[(measured["group"] == -1) & (measured["curve"] == curve.name)]
    trained = experiment.trained_level(curve)
    beyond = measured[measured["level"] > trained].groupby("level")
    better = beyond["error"].max() < CLEARLY * beyond["chance"].max()
    if better.empty:
        return None
    reached = better.index[better.cummin()]  # up to the first that is not
    if reached.empty:
        return Beyond(trained, 0, float("nan"), float("nan"), False)
    level = int(reached[-1])
    at = measured[measured["level"] == level]
    return Beyond(trained, level, float(at["error"].median()), float(at["chance"].max()), level == measured["level"].max())


def _generalization(experiment: Experiment) -> list[str]:
    """How far beyond its training each is still better than chance."""
    parts = []
    for curve in experiment.curves:
        found = better_than_chance(experiment, curve)
        if found is None:
            continue
        if not found.level:
            parts.append(f"{curve.name} nowhere beyond the {found.trained:,} it was trained on")
            continue
        last = ", the highest tested" if found.is_last else ""
        bits = f"{error_text(found.error, experiment)} wrong bits, chance {found.chance:.3g}"
        parts.append(f"{curve.name} up to {found.level:,}, {format_times(found.level / found.trained)} times its training{last} ({bits})")
    return [f"Better than chance, by a tenth or more in every seed, in {experiment.unit}: {'; '.join(parts)}."] if parts else []


def _one_shot(experiment: Experiment) -> list[str]:
    """Accuracy at the first, second, ... showing, at the highest level that was tested within the training's."""
    measured = experiment.evaluations.dropna(subset="error")
    measured = measured[measured["group"] > 0]
    said = []
    for curve in experiment.curves:
        of_curve = measured[measured["curve"] == curve.name]
        levels = [level for level in of_curve["level"].unique() if level <= experiment.trained_level(curve)]
        if not levels:
            continue
        at = of_curve[of_curve["level"] == max(levels)]
        shown = [(i, 1 - at[at["group"] == i]["error"].median()) for i in SHOWN_INSTANCES if (at["group"] == i).any()]
        text = ", ".join(f"{percent(right)} at instance {i}" for i, right in shown)
        chance = percent(1 - float(at["chance"].iloc[0]))
        said.append(f"Of {max(levels)} characters never trained on, {curve.name} names right {text} (chance {chance}).")
    return said


def _selection(experiment: Experiment) -> list[str]:
    """Which of several seeds its validation error chooses, and its test error."""
    parts = []
    for curve in experiment.curves:
        if found := select(curve):
            mean, deviation = error_text(found.mean, experiment), error_text(found.deviation, experiment)
            over = f"over {len(found.tests)} seeds {mean} ± {deviation}"
            parts.append(f"{curve.name} seed {found.run.case.seed}, whose test error is {error_text(found.test, experiment)} ({over})")
    what = "wrong bits a sequence" if experiment.counts_bits else "wrong answers"
    return [f"Best run by validation, {what}: {'; '.join(parts)}."] if parts else []


def _babi(experiment: Experiment) -> list[str]:
    """Mean errors beside the paper's."""
    measured = experiment.evaluations.dropna(subset="error")
    said = []
    for curve in experiment.curves:
        errors = list(babi_errors(measured, curve).values())
        if errors:
            model = curve.case.model
            paper = f"; the paper's best run {TEST_ERRORS.printed_mean[model]:.1f}%" if model in TEST_ERRORS.models else ""
            seeds = _count(curve)
            said.append(f"{curve.name} answers {np.mean(errors):.1f}% of the test questions wrong, mean of 20 tasks and {seeds}{paper}.")
    return said


def _count(curve: Curve) -> str:
    return f"{len(curve.trained)} seeds" if len(curve.trained) > 1 else "1 seed"
