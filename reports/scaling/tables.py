"""The tables of the scaling report, as data; each number names the cases that it comes from."""

import pandas as pd

from mann_bench.data.text import shortened
from mann_bench.data.units import format_bytes, format_number, format_slots
from mann_bench.reports.analysis.gains import Factor, Step
from mann_bench.reports.analysis.max_slots import BUDGETS, MaxSlots
from mann_bench.reports.analysis.ratios import Ratio
from mann_bench.reports.data.frame import EXACT_INDEXES, Row
from mann_bench.reports.data.quantity import QUANTITIES, TAPE, TIME
from mann_bench.reports.html.table import LONG, Cell, Column, Table
from mann_bench.reports.scaling.analysis import Analysis
from mann_bench.reports.scaling.floor import floor_table
from mann_bench.reports.scaling.sentences import format_rate


def summary(analysis: Analysis, setting: str) -> Table:
    """Summarise each curve of a setting in a row: how it grows, and its largest N in two budgets."""
    time, memory = (analysis.fits[quantity.key] for quantity in (TIME, TAPE))
    limits = {(limit.curve, limit.budget): limit for limit in analysis.max_slots if limit.setting == setting}
    rows = []
    for curve in (curve for curve_setting, curve in time if curve_setting == setting):
        cells = [Cell(curve)]
        for fits, quantity in ((memory, TAPE), (time, TIME)):
            fit = fits.get((setting, curve))
            cells.append(Cell(f"{fit.verdict}: {format_rate(fit, quantity)}", fit.order) if fit else Cell("-"))
        cells += [_limit_cell(limits.get((curve, budget))) for budget in ("10 ms a step", "16 GiB")]
        rows.append(tuple(cells))
    heads = ("", "memory each further step takes", "time a step", "largest N in 10 ms a step", "largest N in 16 GiB")
    note = "Rates are those of the term that grows fastest; * from the fitted curve, beyond what was measured." if rows else ""
    return Table(setting, note, tuple(Column(head) for head in heads), tuple(rows))


def tables(analysis: Analysis) -> list[Table]:
    """Build all tables, in reading order; some may have no rows."""
    parts = [
        gain_table(analysis),
        floor_table(analysis.frame),
        growth_table(analysis),
        ratio_table(analysis),
        crossover_table(analysis),
        max_slots_table(analysis),
        front_table(analysis),
    ]
    return [*parts, result_table(analysis.frame), failure_table(analysis.frame)]


def gain_table(analysis: Analysis) -> Table:
    """Tabulate what of each gain is sparsity and what is implementation, at each N."""
    rows = tuple(
        (
            Cell(gain.setting),
            Cell(f"{gain.sparse_model} {gain.index}"),
            Cell(gain.dense_model),
            Cell(format_slots(gain.slots), gain.slots),
            *map(_step_cell, (gain.dense_torch, gain.dense, gain.sparse_torch, gain.sparse)),
            _factor_cell(gain.sparsity, "" if gain.is_apart else " *"),
            *map(_factor_cell, (gain.dense_implementation, gain.sparse_implementation, gain.both)),
        )
        for gain in analysis.gains
    )
    note = (
        "Times of a step in ms, dense and sparse: step by step in torch, and as fast as this run has it. Sparsity: fastest dense over "
        "native sparse; * the fastest dense model is not on native kernels, so the implementation is in this factor too. "
        "Implementation: torch over fastest, of the same model. Both: dense in torch over native sparse."
    )
    times = ("dense in torch", "fastest dense", "sparse in torch", "sparse native")
    factors = ("sparsity", "implementation, dense", "implementation, sparse", "both")
    heads = (Column("setting"), Column("sparse"), Column("dense"), Column("N", True), *(Column(head, True) for head in (*times, *factors)))
    return Table("The gain taken apart", note, heads, rows)


def _step_cell(step: Step | None) -> Cell:
    return Cell("-", "") if step is None else Cell(format_number(step.ms), step.ms, ((step.curve, step.case_id),))


def _factor_cell(factor: Factor | None, mark: str = "") -> Cell:
    if factor is None:
        return Cell("-", "")
    return Cell(f"{format_number(factor.value)} [{format_number(factor.low)}, {format_number(factor.high)}]{mark}", factor.value)


def growth_table(analysis: Analysis) -> Table:
    """Tabulate order and rate of every curve and quantity."""
    rows = []
    measured = analysis.frame[analysis.frame["status"] == "ok"].sort_values("slots", kind="stable")
    parts = {(str(setting), str(curve)): part for (setting, curve), part in measured.groupby(["setting", "curve"], sort=False)}
    for quantity in QUANTITIES:
        for (setting, curve), fit in analysis.fits[quantity.key].items():
            part = parts[setting, curve]
            rows.append(
                (
                    Cell(quantity.title),
                    Cell(setting),
                    Cell(curve),
                    Cell(fit.verdict),
                    Cell(format_rate(fit, quantity), fit.coefficients[-1]),
                    Cell("", len(part), tuple((format_slots(int(n)), c) for n, c in zip(part["slots"], part["case_id"], strict=True))),
                )
            )
    note = (
        "Order: a + b g(N) with a, b >= 0 over the whole sweep, the simplest that explains it about as well as the best; rate: b of the "
        "leading term. Values may differ from size to size by 10% (time, peaks) or 1% (memory a step) for reasons that are not growth. "
        "Of a curve with values above 0, those that are 0 are left out."
    )
    heads = ("quantity", "setting", "curve", "order", "rate", "cases, by N")
    return Table("Growth with N", note, tuple(Column(h, h == "rate", h.startswith("cases")) for h in heads), tuple(rows))


def ratio_table(analysis: Analysis) -> Table:
    """Tabulate speed-up and memory ratio at each N."""
    rows = tuple(
        (
            Cell(r.setting),
            Cell(r.subject),
            Cell(r.twin),
            Cell(format_slots(r.slots), r.slots),
            Cell(format_number(r.speedup), r.speedup),
            Cell(f"[{format_number(r.speedup_low)}, {format_number(r.speedup_high)}]{' *' if r.in_turn is False else ''}", r.speedup_low),
            Cell(r.verdict),
            _tape_cell(r),
            Cell("", "", (("curve", r.subject_case), ("twin", r.twin_case))),
        )
        for r in analysis.ratios
    )
    note = (
        "In one run, timed in turn where they fit the machine together; * at other moments of the run. The interval takes both medians' "
        "95% intervals at their worst. Memory: what one more step keeps for backward; where a side keeps nothing, both are given."
    )
    heads = ("setting", "curve", "twin", "N", "times faster", "interval", "verdict", "times less memory a step", "cases")
    columns = tuple(Column(head, head in ("N", "times faster", "times less memory a step")) for head in heads)
    if analysis.baseline:
        return Table(f"Against {analysis.baseline}", note, columns, rows)
    return Table(
        "Against the twin", f"Sparse against dense, memories of today against SAM, native against plain torch. {note}", columns, rows
    )


def _tape_cell(ratio: Ratio) -> Cell:
    """How many times less memory a step the curve takes, or the bytes of both sides."""
    if ratio.tape_ratio is not None:
        return Cell(format_number(ratio.tape_ratio), ratio.tape_ratio)
    own, twin = map(format_bytes, ratio.tape_bytes)
    return Cell(f"{own} : {twin}", "")


def crossover_table(analysis: Analysis) -> Table:
    """Tabulate the N from which each curve is faster than its twin."""
    rows = tuple((Cell(c.setting), Cell(c.subject), Cell(c.twin), Cell(c.text, c.slots)) for c in analysis.crossovers)
    note = "The N from which the curve stays faster, between sizes on log-log lines; the interval is from both curves' intervals."
    return Table("Crossovers in time", note, tuple(Column(h) for h in ("setting", "curve", "twin", "faster")), rows)


def max_slots_table(analysis: Analysis) -> Table:
    """Tabulate the largest N in each budget, a row a curve."""
    limits = {(limit.setting, limit.curve, limit.budget): limit for limit in analysis.max_slots}
    rows = []
    for setting, curve in dict.fromkeys((setting, curve) for setting, curve, _ in limits):
        cells = [_limit_cell(limits.get((setting, curve, budget))) for budget, _, _ in BUDGETS]
        rows.append((Cell(setting), Cell(curve), *cells))
    note = (
        "Where the fitted curves of time and of peak memory in all reach the budget, with 95% intervals; * beyond the largest N measured."
    )
    heads = (Column("setting"), Column("curve"), *(Column(f"in {budget}", True) for budget, _, _ in BUDGETS))
    return Table("Largest N", note, heads, tuple(rows))


def _limit_cell(limit: MaxSlots | None) -> Cell:
    return Cell("-") if limit is None else Cell(limit.text, limit.slots if limit.slots is not None else 0)


def front_table(analysis: Analysis) -> Table:
    """Tabulate the Pareto front at each N, and what beats the other curves."""
    rows = []
    for front in analysis.fronts:
        best = ", ".join(map(_costs, front.rows.to_dict("records")))
        beaten = ", ".join(f"{curve} (by {by})" for curve, by in front.beaten.items()) or "-"
        cases = tuple((str(r["curve"]), str(r["case_id"])) for _, r in front.rows.iterrows())
        rows.append((Cell(front.setting), Cell(format_slots(front.slots), front.slots), Cell(best), Cell(beaten), Cell("", "", cases)))
    note = "Pareto fronts of time a step, peak memory in all and recall: each curve on a front is better in something than every other one."
    heads = (
        Column("setting"),
        Column("N", True),
        Column("nobody beats", wraps=True),
        Column("beaten", wraps=True),
        Column("cases", wraps=True),
    )
    return Table("What to choose", note, heads, tuple(rows))


def _costs(row: Row) -> str:
    """A case with its time, peak memory and, of an approximate index, recall."""
    measured = f", recall {row['recall']:.2f}" if row["recall"] == row["recall"] else ", recall not measured"
    recall = "" if row["index"] in EXACT_INDEXES else measured
    return f"{row['curve']} ({format_number(row['step_ms_median'])} ms, {format_bytes(row['peak_bytes'])}{recall})"


def result_table(frame: pd.DataFrame) -> Table:
    """Tabulate every measured case."""
    measured = frame[frame["status"] == "ok"]
    rows = tuple(
        (
            Cell(r["curve"]),
            Cell(r["setting"]),
            Cell(format_slots(int(r["slots"])), r["slots"]),
            Cell(f"{r['step_ms_median']:.4g}", r["step_ms_median"]),
            Cell(f"[{r['step_ms_ci_low']:.4g}, {r['step_ms_ci_high']:.4g}]", r["step_ms_ci_low"]),
            Cell(str(r["samples"]), r["samples"]),
            Cell(format_bytes(r["bytes_per_step"]), r["bytes_per_step"]),
            Cell(format_number(r["bytes_per_step"] / r["slots"] / r["batch"]), r["bytes_per_step"] / r["slots"] / r["batch"]),
            Cell(format_bytes(r["pass_bytes"]), r["pass_bytes"]),
            Cell(format_bytes(r["peak_bytes"]), r["peak_bytes"]),
            Cell(f"{r['recall']:.3f}" if r["recall"] == r["recall"] else "-", r["recall"] if r["recall"] == r["recall"] else ""),
            Cell(r["ran_kernels"]),
            Cell(r["case_id"], r["case_id"]),
            Cell(r["warnings"]),
        )
        for r in measured.to_dict("records")
    )
    heads = [Column("curve"), Column("setting"), Column("N", True), Column("ms a step", True), Column("95% interval")]
    heads += [Column(h, True) for h in ("samples", "bytes a step", "bytes a slot and step", "peak of the pass", "peak in all", "recall")]
    note = "Peak of the pass is above what the model and its memory hold. Click a heading to sort."
    return Table(
        "Every measured case", note, (*heads, Column("kernels"), Column("case"), Column("warnings", wraps=True)), rows, _anchors(measured)
    )


def failure_table(frame: pd.DataFrame) -> Table:
    """Tabulate what could not be measured, and why."""
    failed = frame[frame["status"] != "ok"]
    rows = tuple(
        (
            Cell(r["curve"]),
            Cell(r["setting"]),
            Cell(format_slots(int(r["slots"])), r["slots"]),
            Cell(r["status"]),
            Cell(shortened(r["reason"], LONG), details=r["output"]),
            Cell(r["case_id"]),
        )
        for r in failed.to_dict("records")
    )
    heads = (Column("curve"), Column("setting"), Column("N", True), Column("status"), Column("reason", wraps=True), Column("case"))
    return Table(
        "Not measured, and why", "A curve that breaks its budget stops growing and says at which N.", heads, rows, _anchors(failed)
    )


def _anchors(frame: pd.DataFrame) -> tuple[str, ...]:
    """The HTML ids of the rows; a case that several runs hold has its id in the first of them."""
    return tuple(
        f"case-{case_id}" if first else "" for case_id, first in zip(frame["case_id"], ~frame["case_id"].duplicated(), strict=True)
    )
