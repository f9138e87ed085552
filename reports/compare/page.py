"""The page of a comparison: how many cases changed, a forest plot of the ratios, and a table of all cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mann_bench.data.text import one_line, shortened
from mann_bench.data.units import format_number
from mann_bench.reports.compare.comparison import CaseComparison, Comparison
from mann_bench.reports.compare.display import models_text, summary, table_row
from mann_bench.reports.data.frame import environments
from mann_bench.reports.html.interactive import Scripted, can_draw, scripted
from mann_bench.reports.html.page import environment_lines, write_page
from mann_bench.reports.html.table import LONG, Cell, Column, Table, shorten

TOLD_FIRST = 3  # cases that the first sentence names


def write_compare_page(comparison: Comparison, runs: Sequence[Path], threshold: float, out: Path, failed: Sequence[str] = ()) -> Path:
    """Write compare.html into `out`; return its path.

    Args:
        runs: the folders of both sides, A and B.
        threshold: a change of time by less than this fraction is the SAME.
        failed: limits of `--fail-on` that are violated, in sentences.
    """
    out.mkdir(parents=True, exist_ok=True)
    context = {
        "names": [one_line(str(run)) for run in runs],
        "headline": headline(comparison.cases, threshold),
        "counts": summary(comparison.cases, threshold),
        "cautions": [shortened(sentence, LONG) for sentence in (*failed, *comparison.warnings)],
        "charts": _charts(comparison.cases, threshold),
        "tables": shorten([cases_table(comparison.cases, threshold)], out),
        "environments": [environment_lines(run) for run in environments(list(dict.fromkeys(runs)))],
    }
    return write_page(out / "compare.html", context)


def headline(cases: Sequence[CaseComparison], threshold: float) -> str:
    """Say in a sentence whether B is slower or faster, and where the most."""
    by_verdict: dict[str, list[CaseComparison]] = {}
    for case in cases:
        by_verdict.setdefault(case.verdict(threshold), []).append(case)
    parts = []
    for verdict, sign in (("SLOWER", -1), ("FASTER", 1)):
        found = sorted(by_verdict.get(verdict, []), key=lambda case: sign * _ratio(case))
        if found:
            named = ", ".join(f"{case.label} {format_number(_ratio(case))}x" for case in found[:TOLD_FIRST])
            parts.append(f"B is {verdict.lower()} in {len(found)} of {len(cases)} cases, the most in {named}.")
    if not parts and any(case.change for case in cases):
        parts.append(f"No case is known to have become slower or faster by more than {threshold:.0%}.")
    apart = len(by_verdict.get("NOT IN TURN", []))
    parts += [f"{apart} were not timed in turn: their times are shown, not judged."] if apart else []
    undecided = len(by_verdict.get("INCONCLUSIVE", []))
    parts += [f"{undecided} are not decided: more samples would tell."] if undecided else []
    parts += [f"{len(by_verdict['BROKEN'])} ran in A and no longer run."] if "BROKEN" in by_verdict else []
    larger = sum(bool(case.larger()) for case in cases)
    parts = [*filter(None, [models_text(cases)]), *parts]
    return " ".join([*parts, f"Memory grew in {larger} cases." if larger else "Memory grew in no case."])


def cases_table(cases: Sequence[CaseComparison], threshold: float) -> Table:
    """Tabulate every case, the largest ratio of times first and those without one last."""
    rows = []
    for case in sorted(cases, key=lambda case: -_ratio(case)):
        name, before, after, ratio, interval, p, verdict, memory = table_row(case, threshold)
        times: Mapping[int, float] = dict(enumerate(case.step_ms or ()))
        reasons = [f"{side}: {one_line(result.reason)}" for side, result in (("A", case.before), ("B", case.after)) if result.reason]
        cells = [Cell(name), Cell(verdict), Cell(before, times.get(0, "")), Cell(after, times.get(1, ""))]
        cells += [
            Cell(ratio, case.ratio or ""),
            Cell(interval),
            Cell(p, "" if case.p_value is None else case.p_value),
        ]
        rows.append((*cells, Cell(memory), Cell(shortened("; ".join(reasons), LONG))))
    heads = ("A, ms a step", "B, ms a step", "B / A", "95% interval", "p")
    columns = (
        Column("case"),
        Column("verdict"),
        *(Column(head, True) for head in heads),
        Column("memory", wraps=True),
        Column("reason", wraps=True),
    )
    note = f"SLOWER, FASTER: the interval lies wholly beyond {threshold:.0%} and a rank test agrees."
    return Table("Cases", note, columns, tuple(rows))


def _ratio(case: CaseComparison) -> float:
    return case.ratio or 0.0


def _charts(cases: Sequence[CaseComparison], threshold: float) -> Scripted | None:
    if not can_draw():
        return None
    from mann_bench.reports.compare.chart import make_chart

    return scripted([make_chart(cases, threshold)])
