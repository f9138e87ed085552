"""The tables of the report, as data: what a page or a Markdown file shows of the findings, each number with the cases it comes from."""

from collections.abc import Hashable
from typing import Any

import pandas as pd

from mann_bench.data.units import format_bytes, format_slots, format_times
from mann_bench.reports.analysis.limits import BUDGETS, EXACT
from mann_bench.reports.data.quantity import QUANTITIES, TAPE, TIME
from mann_bench.reports.html.table import Cell, Column, Table
from mann_bench.reports.scaling.findings import Findings
from mann_bench.reports.scaling.plots import power
from mann_bench.reports.scaling.verdict import rate


def summary(findings: Findings, setting: str) -> Table:
    """Everything about a curve in a line: how it grows and how far it gets."""
    time, memory = (findings.fits[quantity.key] for quantity in (TIME, TAPE))
    at = {(r.curve, r.budget): r for r in findings.reaches if r.setting == setting}
    rows = []
    for curve in (curve for where, curve in time if where == setting):
        cells = [Cell(curve)]
        for fits, quantity in ((memory, TAPE), (time, TIME)):
            fit = fits.get((setting, curve))
            cells.append(Cell(f"{fit.growth.order}: {rate(fit.growth, quantity)}", fit.growth.order) if fit else Cell("-"))
        found = [at.get((curve, budget)) for budget in ("10 ms a step", "16 GiB")]
        cells += [Cell(r.words, r.slots if r.slots is not None else 0) if r else Cell("-") for r in found]
        rows.append(tuple(cells))
    heads = ("", "memory each further step takes", "time a step", "largest N in 10 ms a step", "largest N in 16 GiB")
    note = "Rates are those of the term that grows fastest; * from the fitted curve, beyond what was measured." if rows else ""
    return Table(setting, note, tuple(Column(head) for head in heads), tuple(rows))


def all_tables(findings: Findings) -> list[Table]:
    """Those that have rows, in reading order."""
    tables = [claims(findings), growth(findings), ratios(findings), crossovers(findings), reaches(findings), fronts(findings)]
    tables += [results(findings.frame), failures(findings.frame)]
    return [table for table in tables if table.rows]


def claims(findings: Findings) -> Table:
    """The paper's claims against ours; only rows that the run had something to say about."""
    rows = [
        (
            Cell(j.claim.says),
            Cell(j.claim.source),
            Cell(j.claim.paper_text),
            Cell(j.ours_text, j.value if j.value is not None else ""),
            Cell(j.verdict),
            Cell(j.how),
            Cell(" ".join(j.remarks)),
            Cell("", "", tuple((case_id[:6], case_id) for case_id in j.case_ids)),
        )
        for j in findings.claims
        if j.verdict != "not run"
    ]
    note = "Each recomputed from the cases named; what no case of this run speaks to is left out (`mann-bench claims` lists all)."
    heads = (
        Column("claim", wraps=True),
        Column("where"),
        Column("paper", True),
        Column("here", True),
        Column("verdict"),
        Column("how", wraps=True),
        Column("remarks", wraps=True),
        Column("cases"),
    )
    return Table("The paper's claims", note, heads, tuple(rows))


def growth(findings: Findings) -> Table:
    """Powers and order of every curve and quantity."""
    rows = []
    for quantity in QUANTITIES:
        for (setting, curve), fit in findings.fits[quantity.key].items():
            part = findings.frame
            part = part[(part["setting"] == setting) & (part["curve"] == curve) & (part["status"] == "ok")].sort_values("slots")
            powers = ", then ".join(
                f"{power(s.value)} [{s.ci_low:.2f}, {s.ci_high:.2f}] to {format_slots(s.last_slots)}" for s in fit.exponent.segments
            )
            rows.append(
                (
                    Cell(quantity.title),
                    Cell(setting),
                    Cell(curve),
                    Cell(fit.growth.verdict),
                    Cell(rate(fit.growth, quantity), fit.growth.coefficients[-1]),
                    Cell(powers, fit.exponent.value),
                    Cell("", len(part), tuple((format_slots(int(n)), c) for n, c in zip(part["slots"], part["case_id"], strict=True))),
                )
            )
    note = (
        "Order: a + b g(N) with a, b >= 0 over the whole sweep, the simplest that explains it about as well as the best; rate: b of the "
        "leading term. Powers: lines on log-log axes, broken where the data ask for it, with the 95% interval of each exponent. Values may "
        "differ from size to size by 10% (time, peaks) or 1% (memory a step) for reasons that are not growth."
    )
    heads = ("quantity", "setting", "curve", "order", "rate", "powers, from small N to large", "cases, by N")
    return Table("Growth with N", note, tuple(Column(h, h == "rate", h.startswith("powers")) for h in heads), tuple(rows))


def ratios(findings: Findings) -> Table:
    """Speed-up and memory ratio at each N."""
    rows = tuple(
        (
            Cell(r.setting),
            Cell(r.subject),
            Cell(r.twin),
            Cell(format_slots(r.slots), r.slots),
            Cell(format_times(r.speedup), r.speedup),
            Cell(f"[{format_times(r.speedup_low)}, {format_times(r.speedup_high)}]", r.speedup_low),
            Cell(format_times(r.tape_ratio) if r.tape_ratio > 0 else "-", r.tape_ratio if r.tape_ratio > 0 else ""),
            Cell("", "", (("curve", r.subject_case), ("twin", r.twin_case))),
        )
        for r in findings.ratios
    )
    note = (
        "Sparse against dense, native against plain torch; in one run, timed in turn where they fit the machine together. "
        "The interval takes both medians' 95% intervals at "
        "their worst. Memory: what one more step keeps for backward."
    )
    heads = ("setting", "curve", "twin", "N", "times faster", "interval", "times less memory a step", "cases")
    return Table("Against the twin", note, tuple(Column(h, h in ("N", "times faster", "times less memory a step")) for h in heads), rows)


def crossovers(findings: Findings) -> Table:
    """From which N on."""
    rows = tuple((Cell(c.setting), Cell(c.subject), Cell(c.twin), Cell(c.words, c.slots)) for c in findings.crossovers)
    note = "The N from which the curve stays faster, between sizes on log-log lines; the interval is from both curves' intervals."
    return Table("Crossovers in time", note, tuple(Column(h) for h in ("setting", "curve", "twin", "faster")), rows)


def reaches(findings: Findings) -> Table:
    """The largest N in each budget, a line a curve."""
    keys = dict.fromkeys((r.setting, r.curve) for r in findings.reaches)
    at = {(r.setting, r.curve, r.budget): r for r in findings.reaches}
    rows = []
    for setting, curve in keys:
        found = [at.get((setting, curve, budget)) for budget, _, _ in BUDGETS]
        cells = [Cell(r.words, r.slots if r.slots is not None else 0) if r else Cell("-") for r in found]
        rows.append((Cell(setting), Cell(curve), *cells))
    note = (
        "Where the fitted curves of time and of peak memory in all reach the budget, with 95% intervals; * beyond the largest N measured."
    )
    heads = (Column("setting"), Column("curve"), *(Column(f"in {budget}", True) for budget, _, _ in BUDGETS))
    return Table("Largest N", note, heads, tuple(rows))


def fronts(findings: Findings) -> Table:
    """Who is beaten by nobody at each N."""
    rows = []
    for front in findings.fronts:
        best = ", ".join(map(_in_words, front.rows.to_dict("records")))
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


def _in_words(row: dict[Hashable, Any]) -> str:
    known = f", recall {row['recall']:.2f}" if row["recall"] == row["recall"] else ", recall not measured"
    recall = "" if row["index"] in EXACT else known
    return f"{row['curve']} ({row['step_ms_median']:.3g} ms, {format_bytes(row['peak_bytes'])}{recall})"


def results(frame: pd.DataFrame) -> Table:
    """Every measured case."""
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
            Cell(f"{r['bytes_per_step'] / r['slots'] / r['batch']:.3g}", r["bytes_per_step"] / r["slots"] / r["batch"]),
            Cell(format_bytes(r["pass_bytes"]), r["pass_bytes"]),
            Cell(format_bytes(r["peak_bytes"]), r["peak_bytes"]),
            Cell(f"{r['recall']:.3f}" if r["recall"] == r["recall"] else "-", r["recall"] if r["recall"] == r["recall"] else ""),
            Cell(r["ran_kernels"]),
            Cell(r["case_id"], r["case_id"]),
        )
        for r in measured.to_dict("records")
    )
    heads = [Column("curve"), Column("setting"), Column("N", True), Column("ms a step", True), Column("95% interval")]
    heads += [Column(h, True) for h in ("samples", "bytes a step", "bytes a slot and step", "peak of the pass", "peak in all", "recall")]
    note = "Peak of the pass is above what the model and its memory hold. Click a heading to sort."
    return Table("Every measured case", note, (*heads, Column("kernels"), Column("case")), rows, _anchors(measured))


def failures(frame: pd.DataFrame) -> Table:
    """What could not be measured, and why."""
    failed = frame[frame["status"] != "ok"]
    rows = tuple(
        (
            Cell(r["curve"]),
            Cell(r["setting"]),
            Cell(format_slots(int(r["slots"])), r["slots"]),
            Cell(r["status"]),
            Cell(r["reason"]),
            Cell(r["case_id"]),
        )
        for r in failed.to_dict("records")
    )
    heads = (Column("curve"), Column("setting"), Column("N", True), Column("status"), Column("reason", wraps=True), Column("case"))
    return Table(
        "Not measured, and why", "A curve that breaks its budget stops growing and says at which N.", heads, rows, _anchors(failed)
    )


def _anchors(frame: pd.DataFrame) -> tuple[str, ...]:
    """An id a row; a case that several runs hold is linked to in the first."""
    return tuple(
        f"case-{case_id}" if first else "" for case_id, first in zip(frame["case_id"], ~frame["case_id"].duplicated(), strict=True)
    )
