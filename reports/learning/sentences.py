"""The learning report in sentences."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from mann_bench.data.registry import SHIPPED
from mann_bench.data.text import one_line
from mann_bench.data.units import format_duration, format_number
from mann_bench.learn.under_way import UnderWay
from mann_bench.reports.learning.babi import PAPER_ERRORS, babi_errors
from mann_bench.reports.learning.comparison import MIN_SEEDS, decide, few_seeds, log_rank, on_several_hosts, ratio
from mann_bench.reports.learning.experiments import Curve, Estimate, Experiment
from mann_bench.reports.learning.generalization import better_than_chance
from mann_bench.reports.learning.selection import select
from mann_bench.reports.learning.tables import SHOWN_INSTANCES
from mann_bench.reports.learning.text import error_text, percent, ratio_text, run_length, whole


def sentences(experiment: Experiment) -> list[str]:
    """State the main results of an experiment, the most important first."""
    lines = [_curriculum(part, host) for host, part in experiment.by_host.items()] if experiment.has_curriculum else []
    if experiment.case.task == "babi":
        lines += [*babi_sentences(experiment), run_length(experiment)] if any(curve.trained for curve in experiment.curves) else []
    elif experiment.case.task == "omniglot":
        lines += one_shot_sentences(experiment)
    if not experiment.has_curriculum and experiment.case.task != "babi":
        lines += [_goal(experiment), *_ratios(experiment)]
    if experiment.case.task not in ("babi", "omniglot"):
        lines += [*_generalization(experiment), *_overwritten_levels(experiment)]
    lines += [*_kernels(experiment), *_selection(experiment), *_memory_size(experiment)]
    return [sentence for sentence in lines if sentence] or ["Nothing was trained; the reasons are below."]


def coverage(experiments: Sequence[Experiment]) -> str:
    """State how many runs there are, and how many did not train to the end."""
    runs = [run for experiment in experiments for run in experiment.runs]
    failed = sum(run.status not in ("ok", "budget") for run in runs)
    text = "1 training run" if len(runs) == 1 else f"{len(runs)} training runs"
    return text + (f"; {failed} did not train to the end, for the reasons below." if failed else ".")


def under_way_sentences(runs: Sequence[UnderWay], waiting: int, unreadable: Sequence[str]) -> list[str]:
    """State which runs are not finished, so that nobody takes what is stored for all.

    Args:
        waiting: how many planned runs are not begun.
        unreadable: names of checkpoints that cannot be read.
    """
    lines = []
    if runs or waiting or unreadable:
        counts = [f"{len(runs) + len(unreadable)} under way"] if runs or unreadable else []
        counts += [f"{waiting} not begun"] if waiting else []
        lines.append(f"Not finished: {', '.join(counts)}. What follows is of the runs that are, and may change.")
    if runs:
        newest = datetime.fromtimestamp(max(run.written_at for run in runs), UTC)
        lines.append(f"The last checkpoint of the runs under way was written at {newest:%Y-%m-%d %H:%M} UTC.")
    if unreadable:
        lines.append(f"Checkpoints that cannot be read, or are of an older version: {', '.join(one_line(name) for name in unreadable)}.")
    return lines


def _goal(experiment: Experiment) -> str:
    """Which curves reached the goal, and after how many sequences and how much time."""
    parts = []
    for curve in (curve for curve in experiment.curves if curve.trained):
        goal = curve.to_goal("sequences")
        if np.isfinite(goal.value):
            seconds = curve.to_goal("seconds").value
            parts.append(f"{curve.name} in {_seeds(goal)} after {whole(goal.value)} sequences ({format_duration(seconds)})")
        else:
            parts.append(f"{curve.name} in {_seeds(goal)} within {whole(goal.limit)}")
    return f"Below {experiment.case.goal:g} bits: {'; '.join(parts)}." if parts else ""


def _seeds(goal: Estimate) -> str:
    return f"{goal.reached} of {goal.seeds} seed{'s' if goal.seeds > 1 else ''}"


def _ratios(experiment: Experiment) -> list[str]:
    """Sequences and time that the other curves need, as multiples of SAM's, and whether that is decided."""
    lines, few = [], []
    for curve in (curve for curve in experiment.curves if curve.trained):
        sam = experiment.reference_of(curve)
        if sam is None:
            continue
        sequences, seconds = ratio(curve, sam, "sequences"), ratio(curve, sam, "seconds")
        apart = on_several_hosts(curve, sam)
        if sequences is None or (seconds is None and not apart):
            lines.append(f"{curve.name} against {sam.name}: not decided, half of the seeds of neither reached the goal.")
            continue
        decision, p = decide(curve, sam, sequences), log_rank(curve, sam)
        decided = decision if decision == "not decided" else f"{decision}, as the interval does not hold 1"
        test = "" if p is None else f"; log-rank p = {p:.2g}"
        times = f"{ratio_text(sequences)} times the sequences of {sam.name} ({decided}{test})"
        times += f", {ratio_text(seconds)} times its time" if seconds else ""
        times += "; they ran on several hosts, so their times are not compared" if apart else ""
        lines.append(f"{curve.name} needs {times}.")
        few += [curve.name] if few_seeds(curve, sam) else []
    if few:
        lines.append(f"Too few seeds to decide: {', '.join(few)}; it takes {MIN_SEEDS} of each.")
    return lines


def _curriculum(experiment: Experiment, host: str) -> str:
    """The level that each curve reached in the same time, of the runs of a host."""
    seconds = experiment.common_seconds
    parts = []
    for curve in (curve for curve in experiment.curves if curve.trained):
        levels = curve.levels_at(seconds)
        spread = f" ({levels[0]:,} to {levels[-1]:,} over {len(levels)} seeds)" if len(levels) > 1 else ""
        parts.append(f"{curve.name} {whole(float(np.median(levels)))}{spread}")
    where = f" on {one_line(host)}" if host else ""
    return f"Highest level after {format_duration(seconds)} of training{where}, in {experiment.unit}: {'; '.join(parts)}." if parts else ""


def _generalization(experiment: Experiment) -> list[str]:
    """How far beyond its training each curve is still better than chance."""
    parts = []
    for curve in experiment.curves:
        beyond = better_than_chance(experiment, curve)
        if beyond is None:
            continue
        if not beyond.level:
            parts.append(f"{curve.name} nowhere beyond the {beyond.trained:,} it was trained on")
            continue
        last = ", the highest tested" if beyond.is_last else ""
        bits = f"{error_text(beyond.error, experiment)} wrong bits, chance {beyond.chance:.3g}"
        times = format_number(beyond.level / beyond.trained)
        parts.append(f"{curve.name} up to {beyond.level:,}, {times} times its training{last} ({bits})")
    return [f"Better than chance, by a tenth or more in every seed, in {experiment.unit}: {'; '.join(parts)}."] if parts else []


def _overwritten_levels(experiment: Experiment) -> list[str]:
    """From which of the levels tested on curves write more rows in a sequence than their memory has."""
    tested = experiment.evaluations
    parts = [
        f"{curve.name} from {lowest:,} on ({curve.case.slots:,} rows)"
        for curve in experiment.curves
        if not np.isnan(lowest := tested[(tested["curve"] == curve.name) & tested["overwrites"]]["level"].min())
    ]
    what = f"Sequences with so many {experiment.unit} write more rows than the memory has, so errors there say little about the model"
    return [f"{what}: {'; '.join(parts)}."] if parts else []


def _kernels(experiment: Experiment) -> list[str]:
    """The kernels and indexes that ran; where the seeds of a curve differ, all."""
    parts = []
    for curve in experiment.curves:
        ran = [run.backend for run in curve.runs if run.backend]
        kernels = ", ".join(dict.fromkeys(one_line(backend.kernels) for backend in ran))
        indexes = ", ".join(dict.fromkeys(one_line(backend.index) for backend in ran))
        searches = curve.case.model not in SHIPPED or SHIPPED[curve.case.model].uses_index
        index = f" with index {indexes}" + (f", tested with {one_line(tested)}" if (tested := curve.case.test_index) else "")
        parts += [f"{curve.name} {kernels}" + (index if searches else "")] if ran else []
    return [f"Kernels that ran: {'; '.join(parts)}."] if parts else []


def _memory_size(experiment: Experiment) -> list[str]:
    """Name the curves whose memory is smaller than what a sequence writes."""
    small = {curve.name: (run.case.slots, run.rows_written) for curve in experiment.curves for run in curve.runs if run.overwrites_itself}
    parts = [f"{name} has {slots:,} rows and writes up to {written:,}" for name, (slots, written) in small.items()]
    return [f"A memory that is smaller than what a sequence writes loses what came first: {'; '.join(parts)}."] if parts else []


def one_shot_sentences(experiment: Experiment) -> list[str]:
    """Accuracy when a character is shown for the first, second, ... time, at the highest tested level that was trained on."""
    measured = experiment.evaluations.dropna(subset="error")
    measured = measured[measured["group"] > 0]
    lines = []
    for curve in experiment.curves:
        of_curve = measured[measured["curve"] == curve.name]
        levels = [level for level in of_curve["level"].unique() if level <= experiment.trained_level(curve)]
        if not levels:
            continue
        rows = of_curve[of_curve["level"] == max(levels)]
        shown = [(i, 1 - rows[rows["group"] == i]["error"].median()) for i in SHOWN_INSTANCES if (rows["group"] == i).any()]
        text = ", ".join(f"{percent(right)} at instance {i}" for i, right in shown)
        chance = percent(1 - float(rows["chance"].iloc[0]))
        lines.append(f"Of {max(levels)} characters never trained on, {curve.name} names right {text} (chance {chance}).")
    return lines


def _selection(experiment: Experiment) -> list[str]:
    """The seed chosen by validation error, and its test error."""
    parts = []
    for curve in experiment.curves:
        if best := select(curve):
            mean, deviation = error_text(best.mean, experiment), error_text(best.deviation, experiment)
            over = f"over {len(best.tests)} seeds {mean} ± {deviation}"
            parts.append(f"{curve.name} seed {best.run.case.seed}, whose test error is {error_text(best.test, experiment)} ({over})")
    what = "wrong bits a sequence" if experiment.counts_bits else "wrong answers"
    return [f"Best run by validation, {what}: {'; '.join(parts)}."] if parts else []


def babi_sentences(experiment: Experiment) -> list[str]:
    """Mean errors, here and in the paper."""
    measured = experiment.evaluations.dropna(subset="error")
    lines = []
    for curve in experiment.curves:
        errors = list(babi_errors(measured, curve).values())
        if errors:
            model = curve.case.model
            paper = f"; the paper's best run {PAPER_ERRORS.printed_mean[model]:.1f}%" if model in PAPER_ERRORS.models else ""
            seeds = _count(curve)
            lines.append(f"{curve.name} answers {np.mean(errors):.1f}% of the test questions wrong, mean of 20 tasks and {seeds}{paper}.")
    return lines


def _count(curve: Curve) -> str:
    return f"{len(curve.trained)} seeds" if len(curve.trained) > 1 else "1 seed"
