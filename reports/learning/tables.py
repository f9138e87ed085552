"""The tables of the learning report, as data; every row names the runs that it comes from."""

from collections.abc import Callable, Sequence

import numpy as np

from mann_bench.data.registry import SHIPPED
from mann_bench.data.text import one_line, shortened, visible
from mann_bench.data.units import format_bytes, format_duration, format_number, format_slots
from mann_bench.learn.record import LearningCase, LearningResult
from mann_bench.learn.under_way import UnderWay
from mann_bench.reports.html.table import LONG, Cell, Column, Table
from mann_bench.reports.learning.babi import babi_table
from mann_bench.reports.learning.comparison import MIN_SEEDS, decide, log_rank, ratio
from mann_bench.reports.learning.experiments import Curve, Estimate, Experiment, ToGoal
from mann_bench.reports.learning.selection import select
from mann_bench.reports.learning.text import error_text, percent, ratio_text, whole

SHOWN_INSTANCES = (1, 2, 5, 10)
OVERWRITES = " †"  # beside a level


def tables_of(experiment: Experiment) -> list[Table]:
    """Build the tables of an experiment that have rows, in reading order."""
    tables = (
        [curriculum_table(part, host) for host, part in experiment.by_host.items()]
        if experiment.has_curriculum
        else [goal_table(experiment)]
    )
    if experiment.case.task == "babi":
        tables.append(babi_table(experiment))
    else:
        tables += [instance_table(experiment), level_table(experiment)]
    tables.append(selection_table(experiment))
    return [table for table in tables if table.rows]


def goal_table(experiment: Experiment) -> Table:
    """Tabulate sequences and time to the goal, their ratios to SAM's, and whether these are decided."""
    compared = experiment.reference is not None
    rows = []
    for curve in filter(lambda curve: curve.trained, experiment.curves):
        sequences, seconds = curve.to_goal("sequences"), curve.to_goal("seconds")
        cells = [Cell(curve.name), Cell(f"{sequences.reached} of {sequences.seeds}", sequences.reached)]
        cells += [estimate_cell(sequences, whole), interval_cell(sequences, whole), estimate_cell(seconds, format_duration)]
        cells.append(interval_cell(seconds, format_duration))
        if compared:
            sam = experiment.reference_of(curve)
            cells += [ratio_cell(curve, sam, "sequences"), *decision_cells(curve, sam), ratio_cell(curve, sam, "seconds")]
        rows.append((*cells, runs_cell(curve)))
    heads = ["curve", "seeds at the goal", "sequences", "95% interval", "time", "95% interval"]
    heads += ["sequences, times SAM's", "decided", "log-rank p", "time, times SAM's"] if compared else []
    note = (
        f"Until the mean loss of {experiment.case.patience} batches is below {experiment.case.goal:g} bits. Medians over seeds, intervals "
        "by bootstrap over seeds (with few, from the lowest to the highest); a seed that did not get there counts as later than all. "
        "Where half of the seeds did not, the limit stands, as >. A ratio is decided where its interval does not hold 1, with at least "
        f"{MIN_SEEDS} seeds of each. The log-rank test compares the sequences of all seeds, those that did not get there included; its p "
        "is not corrected for the number of comparisons. A curve is compared with SAM in its arm of a study, SAM in another arm with the "
        "first."
    )
    columns = [Column(head, head not in ("curve", "decided")) for head in heads]
    return Table("Sequences and time to the goal", note, (*columns, Column("runs, by seed")), tuple(rows))


def curriculum_table(experiment: Experiment, host: str = "") -> Table:
    """Tabulate the level reached in the same time, and sequences and time to the highest level that all reached, of the runs of a host."""
    seconds = experiment.common_seconds
    level = common_level(experiment)
    rows = []
    for curve in filter(lambda curve: curve.trained, experiment.curves):
        levels = curve.levels_at(seconds)
        sequences, time = curve.to_level(level, "sequences"), curve.to_level(level, "wall_s")
        peak = max((run.peak_bytes for run in curve.trained if run.peak_bytes is not None), default=None)
        rows.append(
            (
                Cell(curve.name),
                slots_cell(curve.case),
                Cell(whole(float(np.median(levels))), float(np.median(levels))),
                Cell(f"{levels[0]:,} to {levels[-1]:,} ({len(levels)})", levels[0]),
                estimate_cell(sequences, whole),
                estimate_cell(time, format_duration),
                _bytes_cell(peak),
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
    return Table(f"Curriculum, on {one_line(host)}" if host else "Curriculum", note, heads, tuple(rows))


def common_level(experiment: Experiment) -> int:
    """Return the highest level that the median seed of every curve reached."""
    return min((experiment.trained_level(curve) for curve in experiment.curves if curve.trained), default=1)


def level_table(experiment: Experiment) -> Table:
    """Tabulate the errors on held-out sequences by level."""
    rows = []
    measured = experiment.evaluations[experiment.evaluations["group"] == -1]
    for curve in experiment.curves:
        of_curve = measured[measured["curve"] == curve.name]
        for level in sorted(map(int, of_curve["level"].unique())):
            rows_at_level = of_curve[of_curve["level"] == level]
            errors = rows_at_level["error"].dropna()
            times = level / experiment.trained_level(curve)
            chance = rows_at_level["chance"].dropna()
            if errors.empty:
                shown = [Cell(shortened(str(rows_at_level["reason"].iloc[0] or "not measured"))), Cell("-"), Cell("-")]
            else:
                error, base = float(errors.median()), float(chance.iloc[0]) if len(chance) else float("nan")
                shown = [
                    Cell(error_text(error, experiment), error),
                    Cell(f"{error_text(errors.min(), experiment)} to {error_text(errors.max(), experiment)}", float(errors.min())),
                    Cell(error_text(base, experiment) if len(chance) else "-", base if len(chance) else ""),
                ]
            cases = tuple((str(seed), str(case_id)) for seed, case_id in zip(rows_at_level["seed"], rows_at_level["case_id"], strict=True))
            mark = OVERWRITES if rows_at_level["overwrites"].any() else ""
            rows.append((Cell(curve.name), Cell(f"{level:,}{mark}", level), Cell(format_number(times), times), *shown, Cell("", "", cases)))
    what = "wrong bits a sequence" if experiment.counts_bits else "wrong answers"
    heads = (
        *(Column("curve"), Column(f"level ({experiment.unit})", True), Column("times the trained", True), Column(what, True)),
        *(Column("over seeds"), Column("chance", True), Column("runs, by seed")),
    )
    note = "On sequences that were not trained on, after training; medians over seeds. Chance: the best guess that saw nothing."
    if measured["overwrites"].any():
        note += f"{OVERWRITES}: such sequences write more rows than the memory has, so what came first is lost."
    return Table("Errors on held-out sequences, by level", note, heads, tuple(rows))


def instance_table(experiment: Experiment) -> Table:
    """Tabulate the one-shot accuracy when a character is shown for the first, second, fifth and tenth time."""
    measured = experiment.evaluations.dropna(subset="error")
    rows = []
    for curve in experiment.curves if experiment.case.task == "omniglot" else ():
        of_curve = measured[(measured["curve"] == curve.name) & (measured["group"] > 0)]
        for level in sorted(map(int, of_curve["level"].unique())):
            rows_at_level = of_curve[of_curve["level"] == level]
            cells = [Cell(curve.name), Cell(f"{level}", level)]
            for instance in SHOWN_INSTANCES:
                right = 1 - rows_at_level[rows_at_level["group"] == instance]["error"]
                spread = f" ({percent(right.min())} to {percent(right.max())})" if len(right) > 1 else ""
                cells.append(Cell(percent(right.median()) + spread, float(right.median())) if len(right) else Cell("-"))
            chance = 1 - float(rows_at_level["chance"].iloc[0])
            rows.append((*cells, Cell(percent(chance), chance), runs_cell(curve)))
    heads = (Column("curve"), Column("characters", True), *(Column(f"instance {i}", True) for i in SHOWN_INSTANCES))
    note = "Share of characters named right when shown for the first, second, ... time; none of them was trained on. Medians over seeds."
    return Table("One-shot accuracy", note, (*heads, Column("chance", True), Column("runs, by seed")), tuple(rows))


def selection_table(experiment: Experiment) -> Table:
    """Tabulate the run chosen by validation error, beside mean and standard deviation over seeds."""
    rows = []
    for curve in experiment.curves:
        if best := select(curve):
            cells = [
                Cell(curve.name),
                Cell(str(best.run.case.seed), best.run.case.seed),
                Cell(f"{best.run.level:,}", best.run.level or 0),
            ]
            cells += [Cell(error_text(error, experiment), error) for error in (best.validation, best.test)]
            spread = f"{error_text(best.mean, experiment)} ± {error_text(best.deviation, experiment)} ({len(best.tests)})"
            rows.append((*cells, Cell(spread, best.mean), runs_cell(curve)))
    heads = (Column("curve"), *(Column(head, True) for head in ("best seed", "level", "its validation error", "its test error")))
    what = "Wrong bits a sequence" if experiment.counts_bits else "Wrong answers"
    note = (
        f"{what} at the highest level trained on. The best run is that of the highest level, then of the smallest error on sequences "
        "that are neither trained on nor the test's, as in the paper's Table 1; beside it the test errors of all seeds, mean ± standard "
        "deviation (their number), as in its Table 2."
    )
    last = (Column("test error over seeds", True), Column("runs, by seed"))
    return Table("Best run by validation", note, (*heads, *last), tuple(rows))


def slots_cell(case: LearningCase) -> Cell:
    """N; nothing for a model that has no slots, for which a case names some all the same."""
    entry = SHIPPED.get(case.model)
    return Cell(format_slots(case.slots), case.slots) if entry is None or entry.uses_slots else Cell("-")


def run_table(experiments: Sequence[Experiment]) -> Table:
    """Tabulate every run."""
    rows, anchors = [], []
    for experiment in experiments:
        for curve in experiment.curves:
            for run in curve.runs:
                case = run.case
                loss = run.curve[-1].loss if run.curve else float("nan")
                trained_s = run.curve[-1].wall_s if run.curve else 0.0
                cells = [Cell(experiment.title), Cell(curve.name), Cell(str(case.seed), case.seed), Cell(run.status)]
                cells += [slots_cell(case), Cell(f"{case.word_size}, {case.heads}, {case.reads}, {case.hidden}")]
                cells += [Cell(f"{case.optimizer} {case.learning_rate:g}"), Cell(f"{run.sequences:,}", run.sequences)]
                cells += [Cell(format_duration(trained_s), trained_s), Cell(f"{loss:.3g}" if run.curve else "-", loss if run.curve else "")]
                cells += [Cell("-") if run.level is None else Cell(f"{run.level:,}", run.level), Cell(str(run.resumed), run.resumed)]
                backend = f"{run.backend.kernels}, {run.backend.index}" if run.backend else "-"
                rows.append((*cells, Cell(backend), _bytes_cell(run.peak_bytes)))
                anchors.append(f"case-{run.case_id}")
    numbers = {"seed", "N", "sequences", "trained", "last loss", "level", "resumed", "peak memory"}
    heads = ("task", "curve", "seed", "ended", "N", "W, R, K, H", "optimizer", "sequences", "trained", "last loss", "level", "resumed")
    columns = tuple(Column(head, head in numbers) for head in (*heads, "ran", "peak memory"))
    note = "Ended ok: at the goal; budget: at the limit of sequences or time. Last loss: bits, mean since the point of the curve before."
    return Table("Runs", note, columns, tuple(rows), tuple(anchors))


def under_way_table(runs: Sequence[UnderWay]) -> Table:
    """Tabulate the runs under way as their last checkpoints have them."""
    rows = []
    for run in runs:
        loss = run.curve[-1].loss if run.curve else float("nan")
        cells = [Cell(one_line(run.case.task)), Cell(one_line(run.name)), Cell(f"{run.sequences:,}", run.sequences)]
        cells += [Cell(format_duration(run.wall_s), run.wall_s), Cell(f"{run.share:.0%}", run.share), Cell(f"{run.level:,}", run.level)]
        rows.append((*cells, Cell(f"{loss:.3g}", loss) if run.curve else Cell("-", "")))
    heads = ("sequences", "trained", "of its limit", "level", "last loss")
    note = "As their last checkpoints have them; they are in no curve, median or verdict."
    return Table("Runs under way", note, (Column("task"), Column("run"), *(Column(head, True) for head in heads)), tuple(rows))


def unfinished_table(experiments: Sequence[Experiment]) -> Table:
    """Tabulate the runs that neither reached their goal nor a limit, and why."""
    rows = tuple(
        (*map(Cell, (e.title, curve.name, str(run.case.seed), run.status)), _reason_cell(run), runs_cell(curve))
        for e in experiments
        for curve in e.curves
        for run in curve.runs
        if run.status not in ("ok", "budget")
    )
    heads = (Column("task"), Column("curve"), Column("seed", True), Column("status"), Column("reason", wraps=True), Column("runs"))
    return Table("Not trained to the end, and why", "What was learned until then is kept and shown above.", heads, rows)


def _reason_cell(run: LearningResult) -> Cell:
    return Cell(shortened(run.reason or "", LONG), details=visible(run.output or ""))


def _bytes_cell(size_bytes: int | None) -> Cell:
    return Cell("-") if size_bytes is None else Cell(format_bytes(size_bytes), size_bytes)


def runs_cell(curve: Curve) -> Cell:
    """Return links to the runs, by seed."""
    return Cell("", "", tuple((str(run.case.seed), run.case_id) for run in curve.runs))


def estimate_cell(estimate: Estimate, format_value: Callable[[float], str]) -> Cell:
    """Return the median, or the lower bound of it."""
    if np.isinf(estimate.value):
        return Cell(f"> {format_value(estimate.limit)}", 1e18)
    return Cell(format_value(estimate.value), estimate.value)


def interval_cell(estimate: Estimate, format_value: Callable[[float], str]) -> Cell:
    """Return the 95% interval; without an upper end where a seed did not reach the goal."""
    if np.isinf(estimate.low):
        return Cell("-", "")
    return Cell(f"[{format_value(estimate.low)}, {'none' if np.isinf(estimate.high) else format_value(estimate.high)}]", estimate.low)


def decision_cells(curve: Curve, sam: Curve | None) -> list[Cell]:
    """Return whether the curve needs more or fewer sequences than SAM, and p of the log-rank test."""
    if sam is None:
        return [Cell("-", ""), Cell("-", "")]
    p = log_rank(curve, sam)
    return [Cell(decide(curve, sam, ratio(curve, sam, "sequences"))), Cell("-", "") if p is None else Cell(f"{p:.2g}", p)]


def ratio_cell(curve: Curve, sam: Curve | None, what: ToGoal) -> Cell:
    """Return the ratio of the curve's need to SAM's: `1.35 [1.04, 1.65]`."""
    times_sam = ratio(curve, sam, what) if sam else None
    return Cell(ratio_text(times_sam), times_sam.value) if times_sam else Cell("-", "")
