"""What the committed studies of learning give, as published numbers need it."""

import functools
import math

import numpy as np

from mann_bench.data.registry import SHIPPED
from mann_bench.reports.learning.babi import PAPER_ERRORS, babi_errors
from mann_bench.reports.learning.comparison import decide, log_rank, ratio
from mann_bench.reports.learning.experiments import Curve, Experiment, load_experiments, median_of, resampled_medians
from mann_bench.reports.learning.text import ratio_text, whole
from tests.published.results import folder


@functools.cache
def experiment(study: str, task: str) -> Experiment:
    """The reported runs of a study on a task."""
    return next(found for found in load_experiments([folder(study)]) if found.case.task == task)


def to_the_goal(study: str, task: str) -> str:
    """Median sequences until the goal, the fewest first, and how many seeds got there: `SDNC 5,808 (9 of 10 seeds), ...`."""
    goals = {called(curve.name): curve.to_goal("sequences") for curve in experiment(study, task).curves}
    parts: list[str] = []
    for name, goal in sorted(goals.items(), key=lambda item: (item[1].value, -item[1].reached)):
        needs = whole(goal.value) if math.isfinite(goal.value) else f"more than {whole(goal.limit)}"
        parts.append(f"{name} {needs} ({goal.reached} of {goal.seeds}{'' if parts else ' seeds'})")
    return ", ".join(parts)


def against_sam(study: str, task: str) -> str:
    """What the others need, as multiples of SAM's sequences: `SDNC 0.49 [0.46, 0.54], fewer (log-rank p = 0.01); DAM ...`."""
    curves = {curve.name: curve for curve in experiment(study, task).curves}
    sam = curves.pop("sam")
    parts = []
    for name, curve in curves.items():
        p = log_rank(curve, sam)
        parts.append(f"{called(name)} {multiple(curve, sam)}" + (f" (log-rank p = {p:.2g})" if p is not None else ""))
    return "; ".join(parts)


def times_sams(study: str, task: str, model: str) -> str:
    """What a model needs, as a multiple of SAM's sequences: `0.49 [0.46, 0.54]`."""
    curves = {curve.name: curve for curve in experiment(study, task).curves}
    found = ratio(curves[model], curves["sam"], "sequences")
    assert found is not None
    return ratio_text(found)


def arms(study: str, task: str) -> str:
    """Median sequences of the first arm of a study, then the others as multiples: `K 4 130,000 (10 of 10 seeds); K 8 0.8, fewer`."""
    first, *others = experiment(study, task).curves
    goal = first.to_goal("sequences")
    parts = [f"{first.arm} {whole(goal.value)} ({goal.reached} of {goal.seeds} seeds)"]
    return "; ".join([*parts, *(f"{curve.arm} {multiple(curve, first)}" for curve in others)])


def errors_of_arms(study: str, task: str) -> str:
    """Median wrong bits of each arm on held-out sequences of the highest level trained on, with intervals: `live 0.37 [0.35, 0.4]`."""
    found, parts = experiment(study, task), []
    for curve in found.curves:
        highest = found.trained_level(curve)
        errors = np.array([e.error for run in curve.runs for e in run.evaluations if (e.level, e.group) == (highest, None)], dtype=float)
        low, high = np.quantile(resampled_medians(errors), (0.025, 0.975), method="nearest")
        parts.append(f"{curve.arm} {median_of(errors):.2g} [{low:.2g}, {high:.2g}]")
    return ", ".join(parts)


def at_goal(study: str, task: str) -> tuple[int, int]:
    """How many of a study's reported runs reached the goal, of how many."""
    goals = [curve.to_goal("sequences") for curve in experiment(study, task).curves]
    return sum(goal.reached for goal in goals), sum(goal.seeds for goal in goals)


def highest_levels(study: str, task: str) -> str:
    """The highest level that each model was trained on, of one seed: `SAM 8,192, LSTM 8`."""
    found = experiment(study, task)
    return ", ".join(f"{called(curve.name)} {whole(found.trained_level(curve))}" for curve in found.curves)


def errors_by_level(study: str, task: str) -> str:
    """Errors on held-out sequences of each level, of one seed: `SAM 4.1% at 2, 12% at 8; DAM ...`, or wrong bits a sequence."""
    parts = []
    for curve in experiment(study, task).curves:
        (run,) = curve.runs
        errors = {found.level: found.error for found in run.evaluations if found.group is None and found.error is not None}
        texts = {level: f"{100 * error:.2g}%" if run.answer == "class" else f"{error:.2g}" for level, error in errors.items()}
        parts.append(f"{called(curve.name)} " + ", ".join(f"{text} at {whole(level)}" for level, text in texts.items()))
    return "; ".join(parts)


def sequences_by_level(study: str, task: str, last: int) -> str:
    """Sequences of the last levels of a test, of one run: `64 at 81,920 and 16 at 163,840`."""
    (run,) = experiment(study, task).runs
    return " and ".join(f"{found.sequences} at {whole(found.level)}" for found in run.evaluations[-last:])


def babi_by_model(study: str) -> str:
    """Mean error of the tasks and how many failed, of each model, beside the paper's best run: `SAM 25.1% and 15 (paper: 4.1% and 2)`."""
    found, parts = experiment(study, "babi"), []
    for curve in found.curves:
        model, errors = curve.case.model, [*babi_errors(found.evaluations.dropna(subset="error"), curve).values()]
        failed = sum(error > PAPER_ERRORS.fails_above for error in errors)
        paper = f"{PAPER_ERRORS.printed_mean[model]:.1f}% and {PAPER_ERRORS.printed_failed[model]}"
        parts.append(f"{called(model)} {np.mean(errors):.1f}% and {failed} (paper: {paper})")
    return ", ".join(parts)


def babi_guess(study: str) -> str:
    """Mean error of the tasks for who always gives the commonest answer: `70.8%`."""
    measured = experiment(study, "babi").evaluations
    return f"{100 * measured[measured['group'] > 0].groupby('group')['chance'].first().mean():.1f}%"


def sequences_trained(study: str, task: str) -> str:
    """Sequences that each model was trained on, of one seed: `SAM 350,000, SDNC 290,000`."""
    runs = [(curve.case.model, run) for curve in experiment(study, task).curves for run in curve.runs]
    return ", ".join(f"{called(model)} {whole(run.sequences)}" for model, run in runs)


def multiple(curve: Curve, of: Curve) -> str:
    """What a curve needs, as a multiple of another's sequences, and what that decides: `0.49 [0.46, 0.54], fewer`."""
    found = ratio(curve, of, "sequences")
    return f"{ratio_text(found) if found else 'no ratio'}, {decide(curve, of, found)}"


def called(model: str) -> str:
    """The name of a model's class."""
    return SHIPPED[model].target.rpartition(":")[2]


def slots_of_models(study: str, task: str) -> str:
    """The slots that each model has, of those that have any: `SAM 4,096, SDNC 1,040, ...`."""
    slots = {run.case.model: run.case.slots for run in experiment(study, task).runs if SHIPPED[run.case.model].uses_slots}
    return ", ".join(f"{called(model)} {whole(count)}" for model, count in slots.items())


def rows_and_writes(study: str, task: str) -> tuple[int, int]:
    """Slots, which all models have alike, and the most rows that one of them writes in a sequence."""
    runs = experiment(study, task).runs
    (slots,) = {run.case.slots for run in runs}
    return slots, max(run.rows_written or 0 for run in runs)
