"""The tables of the learning page, as data; every row names the runs that it comes from."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mann_bench.data.units import format_bytes, format_duration, format_slots, format_times
from mann_bench.reports.html.table import Cell, Column, Table
from mann_bench.reports.learning.babi import TEST_ERRORS
from mann_bench.reports.learning.experiments import Curve, Estimate, Experiment, ToGoal, ratio
from mann_bench.reports.learning.selection import select

SHOWN_INSTANCES = (1, 2, 5, 10)


def tables_of(experiment: Experiment) -> list[Table]:
    """Those that have rows, in reading order."""
    tables = [curriculum(experiment)] if experiment.has_curriculum else [efficiency(experiment)]
    if experiment.case.task == "babi":
        tables.append(babi(experiment))
    else:
        tables += [instances(experiment), generalization(experiment)]
    tables.append(selection(experiment))
    return [table for table in tables if table.rows]


def reference(experiment: Experiment) -> Curve | None:
    """The curve that the others are held against: the first SAM."""
    return next((curve for curve in experiment.curves if curve.case.model == "sam" and curve.trained), None)


def efficiency(experiment: Experiment) -> Table:
    """Sequences and time to the goal, and how many times those of SAM."""
    sam = reference(experiment)
    rows = []
    for curve in filter(lambda curve: curve.trained, experiment.curves):
        sequences, seconds = curve.to_goal("sequences"), curve.to_goal("seconds")
        cells = [Cell(curve.name), Cell(f"{sequences.reached} of {sequences.seeds}", sequences.reached)]
        cells += [estimate_cell(sequences, whole), interval_cell(sequences, whole), estimate_cell(seconds, format_duration)]
        cells.append(interval_cell(seconds, format_duration))
        if sam:
            cells += [ratio_cell(curve, sam, "sequences"), ratio_cell(curve, sam, "seconds")]
        rows.append((*cells, runs_cell(curve)))
    heads = ["curve", "seeds at the goal", "sequences", "95% interval", "time", "95% interval"]
    heads += [f"sequences, times {sam.name}'s", f"time, times {sam.name}'s"] if sam else []
    note = (
        f"Until the mean loss of {experiment.case.patience} batches is below {experiment.case.goal:g} bits. Medians over seeds, intervals "
        "by bootstrap over seeds (with few, from the lowest to the highest); a seed that did not get there counts as later than all. "
        "Where half of the seeds did not, the limit stands, as >."
    )
    columns = [Column(head, head not in ("curve",)) for head in heads]
    return Table("Sequences and time to the goal", note, (*columns, Column("runs, by seed")), tuple(rows))


def curriculum(experiment: Experiment) -> Table:
    """Highest level in the same time, and sequences and time to the highest level that all came to."""
    seconds = experiment.common_seconds
    level = common_level(experiment)
    rows = []
    for curve in filter(lambda curve: curve.trained, experiment.curves):
        levels = curve.levels_at(seconds)
        sequences, time = curve.to_level(level, "sequences"), curve.to_level(level, "wall_s")
        peak = max((run.peak_bytes for run in curve.trained if run.peak_bytes), default=0)
        rows.append(
            (
                Cell(curve.name),
                Cell(format_slots(curve.case.slots), curve.case.slots),
                Cell(whole(float(np.median(levels))), float(np.median(levels))),
                Cell(f"{levels[0]:,} to {levels[-1]:,} ({len(levels)})", levels[0]),
                estimate_cell(sequences, whole),
                estimate_cell(time, format_duration),
                Cell(format_bytes(peak) if peak else "-", peak),
                runs_cell(curve),
            )
        )
    heads = (
        *(Column("curve"), Column("N", True), Column(f"level after {format_duration(seconds)}", True), Column("over seeds (their number)")),
        *(Column(f"sequences to level {level:,}", True), Column(f"time to level {level:,}", True), Column("peak memory", True)),
        Column("runs, by seed"),
    )
    note = (
        f"The level h doubles when the mean loss of {experiment.case.patience} batches, of levels drawn from {experiment.case.levels[0]} "
        f"to h, is below {experiment.case.curriculum_threshold:g} bits. Medians over seeds. Peak memory: the whole process, at most."
    )
    return Table("Curriculum", note, heads, tuple(rows))


def common_level(experiment: Experiment) -> int:
    """The highest level that the median seed of every curve came to."""
    return min((experiment.trained_level(curve) for curve in experiment.curves if curve.trained), default=1)


def generalization(experiment: Experiment) -> Table:
    """Errors by level."""
    rows = []
    measured = experiment.evaluations[experiment.evaluations["group"] == -1]
    for curve in experiment.curves:
        of_curve = measured[measured["curve"] == curve.name]
        for level in sorted(map(int, of_curve["level"].unique())):
            found = of_curve[of_curve["level"] == level]
            errors = found["error"].dropna()
            times = level / experiment.trained_level(curve)
            chance = found["chance"].dropna()
            if errors.empty:
                shown = [Cell(str(found["reason"].iloc[0] or "not measured")), Cell("-"), Cell("-")]
            else:
                error, base = float(errors.median()), float(chance.iloc[0]) if len(chance) else float("nan")
                shown = [
                    Cell(error_text(error, experiment), error),
                    Cell(f"{error_text(errors.min(), experiment)} to {error_text(errors.max(), experiment)}", float(errors.min())),
                    Cell(error_text(base, experiment) if len(chance) else "-", base if len(chance) else ""),
                ]
            cases = tuple((str(seed), str(case_id)) for seed, case_id in zip(found["seed"], found["case_id"], strict=True))
            rows.append((Cell(curve.name), Cell(f"{level:,}", level), Cell(format_times(times), times), *shown, Cell("", "", cases)))
    what = "wrong bits a sequence" if experiment.counts_bits else "wrong answers"
    heads = (
        *(Column("curve"), Column(f"level ({experiment.unit})", True), Column("times the trained", True), Column(what, True)),
        *(Column("over seeds"), Column("chance", True), Column("runs, by seed")),
    )
    note = "On sequences that were not trained on, after training; medians over seeds. Chance: the best guess that saw nothing."
    return Table("Errors on held-out sequences, by level", note, heads, tuple(rows))


def instances(experiment: Experiment) -> Table:
    """Accuracy at the first, second, fifth and tenth showing."""
    measured = experiment.evaluations.dropna(subset="error")
    rows = []
    for curve in experiment.curves if experiment.case.task == "omniglot" else ():
        of_curve = measured[(measured["curve"] == curve.name) & (measured["group"] > 0)]
        for level in sorted(map(int, of_curve["level"].unique())):
            found = of_curve[of_curve["level"] == level]
            cells = [Cell(curve.name), Cell(f"{level}", level)]
            for instance in SHOWN_INSTANCES:
                right = 1 - found[found["group"] == instance]["error"]
                spread = f" ({percent(right.min())} to {percent(right.max())})" if len(right) > 1 else ""
                cells.append(Cell(percent(right.median()) + spread, float(right.median())) if len(right) else Cell("-"))
            chance = 1 - float(found["chance"].iloc[0])
            rows.append((*cells, Cell(percent(chance), chance), runs_cell(curve)))
    heads = (Column("curve"), Column("characters", True), *(Column(f"instance {i}", True) for i in SHOWN_INSTANCES))
    note = "Share of characters named right when shown for the first, second, ... time; none of them was trained on. Medians over seeds."
    return Table("One-shot accuracy", note, (*heads, Column("chance", True), Column("runs, by seed")), tuple(rows))


def selection(experiment: Experiment) -> Table:
    """The run that its validation error chooses, beside mean and standard deviation over seeds."""
    rows = []
    for curve in experiment.curves:
        if found := select(curve):
            cells = [
                Cell(curve.name),
                Cell(str(found.run.case.seed), found.run.case.seed),
                Cell(f"{found.run.level:,}", found.run.level or 0),
            ]
            cells += [Cell(error_text(error, experiment), error) for error in (found.validation, found.test)]
            spread = f"{error_text(found.mean, experiment)} ± {error_text(found.deviation, experiment)} ({len(found.tests)})"
            rows.append((*cells, Cell(spread, found.mean), runs_cell(curve)))
    heads = (Column("curve"), *(Column(head, True) for head in ("best seed", "level", "its validation error", "its test error")))
    what = "Wrong bits a sequence" if experiment.counts_bits else "Wrong answers"
    note = (
        f"{what} at the highest level trained on. The best run is that of the highest level, then of the smallest error on sequences "
        "that are neither trained on nor the test's, as in the paper's Table 1; beside it the test errors of all seeds, mean ± standard "
        "deviation (their number), as in its Table 2."
    )
    last = (Column("test error over seeds", True), Column("runs, by seed"))
    return Table("Best run by validation", note, (*heads, *last), tuple(rows))


def babi(experiment: Experiment) -> Table:
    """Errors by task beside the paper's."""
    measured = experiment.evaluations.dropna(subset="error")
    curves = [curve for curve in experiment.curves if curve.name in set(measured["curve"])]
    columns = []
    for curve in curves:
        if found := select(curve):
            of_best = measured[measured["case_id"] == found.run.case_id]
            columns.append(_babi_column(f"{curve.name}, here, best by validation", babi_errors(of_best, curve)))
        head = f"{curve.name}, here" + (f", mean of {len(curve.trained)}" if len(curve.trained) > 1 else "")
        columns.append(_babi_column(head, babi_errors(measured, curve)))
    for model in (model for model in TEST_ERRORS.models if model in {curve.case.model for curve in curves}):
        errors = {task: f"{error:.1f}" for task, error in enumerate(TEST_ERRORS.of(model), 1)}
        columns.append((f"{model}, paper", errors, f"{TEST_ERRORS.printed_mean[model]:.1f}", str(TEST_ERRORS.printed_failed[model])))
    chance = measured[measured["group"] > 0].groupby("group")["chance"].first()
    columns.append(_babi_column("commonest answer", {int(str(task)): 100 * float(value) for task, value in chance.items()}))
    rows = [
        (
            Cell(f"{task} {name}", task),
            *(Cell(errors.get(task, "-"), float(errors.get(task, "nan"))) for _, errors, _, _ in columns),
            Cell(TEST_ERRORS.corrected.get(task, "")),
        )
        for task, name in enumerate(TEST_ERRORS.names, 1)
    ]
    rows.append((Cell("mean", 21), *(Cell(mean, float(mean)) for _, _, mean, _ in columns), Cell("")))
    rows.append((Cell(f"failed (above {TEST_ERRORS.fails_above:g}%)", 22), *(Cell(count, int(count)) for *_, count in columns), Cell("")))
    note = (
        f"Test error in %: share of questions with any wrong word; {TEST_ERRORS.source}. "
        f"{run_length(experiment)} The commonest answer: always giving the answer that the task has most often."
    )
    heads = (Column("task"), *(Column(head, True) for head, *_ in columns), Column("reading of the paper's table", wraps=True))
    return Table("bAbI, beside the paper", note, heads, tuple(rows) if curves else ())


def _babi_column(head: str, errors: dict[int, float]) -> tuple[str, dict[int, str], str, str]:
    """Heading, errors in % by task, mean and number of failed tasks, as shown."""
    values = list(errors.values())
    failed = sum(error > TEST_ERRORS.fails_above for error in values)
    return head, {task: f"{error:.1f}" for task, error in errors.items()}, f"{np.mean(values):.1f}" if values else "nan", str(failed)


def babi_errors(measured: pd.DataFrame, curve: Curve) -> dict[int, float]:
    """Mean over seeds of each task's error, in %."""
    found = measured[(measured["curve"] == curve.name) & (measured["group"] > 0)].groupby("group")["error"].mean()
    return {int(str(group)): 100 * float(error) for group, error in found.items()}


def run_length(experiment: Experiment) -> str:
    """How long was trained, and that it was short where a limit ended it."""
    sequences = [run.sequences for run in experiment.runs if run.curve]
    seconds = [run.curve[-1].wall_s for run in experiment.runs if run.curve]
    short = any(run.status != "ok" for run in experiment.runs if run.curve)
    span = f"{min(sequences):,} to {max(sequences):,}" if min(sequences) < max(sequences) else f"{max(sequences):,}"
    text = f"{span} training sequences, at most {format_duration(max(seconds))}"
    return f"A short run, ended by its limit and not because it had learned: {text}." if short else f"Trained to the goal: {text}."


def runs(experiments: list[Experiment]) -> Table:
    """Every run in a line."""
    rows, anchors = [], []
    for experiment in experiments:
        for curve in experiment.curves:
            for run in curve.runs:
                case = run.case
                loss = run.curve[-1].loss if run.curve else float("nan")
                trained_s = run.curve[-1].wall_s if run.curve else 0.0
                cells = [Cell(experiment.title), Cell(curve.name), Cell(str(case.seed), case.seed), Cell(run.status)]
                cells += [Cell(format_slots(case.slots), case.slots), Cell(f"{case.word_size}, {case.heads}, {case.reads}, {case.hidden}")]
                cells += [Cell(f"{case.optimizer} {case.learning_rate:g}"), Cell(f"{run.sequences:,}", run.sequences)]
                cells += [Cell(format_duration(trained_s), trained_s), Cell(f"{loss:.3g}" if run.curve else "-", loss if run.curve else "")]
                cells += [Cell(f"{run.level:,}" if run.level else "-", run.level or ""), Cell(str(run.resumed), run.resumed)]
                ran = f"{run.backend.kernels}, {run.backend.index}" if run.backend else "-"
                rows.append((*cells, Cell(ran), Cell(format_bytes(run.peak_bytes) if run.peak_bytes else "-", run.peak_bytes or "")))
                anchors.append(f"case-{run.case_id}")
    numbers = {"seed", "N", "sequences", "trained", "last loss", "level", "resumed", "peak memory"}
    heads = ("task", "curve", "seed", "ended", "N", "W, R, K, H", "optimizer", "sequences", "trained", "last loss", "level", "resumed")
    columns = tuple(Column(head, head in numbers) for head in (*heads, "ran", "peak memory"))
    note = "Ended ok: at the goal; budget: at the limit of sequences or time. Last loss: bits, mean since the point of the curve before."
    return Table("Runs", note, columns, tuple(rows), tuple(anchors))


def unfinished(experiments: list[Experiment]) -> Table:
    """Runs that stopped for another reason than goal or limit."""
    rows = tuple(
        (Cell(e.title), Cell(curve.name), Cell(str(run.case.seed)), Cell(run.status), Cell(run.reason or ""), runs_cell(curve))
        for e in experiments
        for curve in e.curves
        for run in curve.runs
        if run.status not in ("ok", "budget")
    )
    heads = (Column("task"), Column("curve"), Column("seed", True), Column("status"), Column("reason", wraps=True), Column("runs"))
    return Table("Not trained to the end, and why", "What was learned until then is kept and shown above.", heads, rows)


def runs_cell(curve: Curve) -> Cell:
    """Links to the runs, by seed."""
    return Cell("", "", tuple((str(run.case.seed), run.case_id) for run in curve.runs))


def estimate_cell(estimate: Estimate, write: Callable[[float], str]) -> Cell:
    """The median, or what it is at least."""
    if np.isinf(estimate.value):
        return Cell(f"> {write(estimate.limit)}", 1e18)
    return Cell(write(estimate.value), estimate.value)


def interval_cell(estimate: Estimate, write: Callable[[float], str]) -> Cell:
    """The 95% interval; open where a seed did not get there."""
    if np.isinf(estimate.low):
        return Cell("-", "")
    return Cell(f"[{write(estimate.low)}, {'none' if np.isinf(estimate.high) else write(estimate.high)}]", estimate.low)


def ratio_cell(curve: Curve, sam: Curve, what: ToGoal) -> Cell:
    """`1.35 [1.04, 1.65]`."""
    found = ratio(curve, sam, what) if curve is not sam else None
    return Cell(ratio_text(found), found[0]) if found else Cell("-", "")


def ratio_text(found: tuple[float, float, float, str]) -> str:
    """The ratio with its interval; a bound has none."""
    value, low, high, bound = found
    return f"{bound} {format_times(value)}" if bound else f"{format_times(value)} [{format_times(low)}, {format_times(high)}]"


def whole(value: float) -> str:
    """`12,000`."""
    return f"{value:,.0f}"


def percent(share: float) -> str:
    """`82%`."""
    return f"{100 * share:.0f}%"


def error_text(error: float, experiment: Experiment) -> str:
    """Bits, or a share in %."""
    return f"{error:.3g}" if experiment.counts_bits else f"{100 * error:.1f}%"
