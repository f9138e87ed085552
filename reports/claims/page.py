"""The page of the paper's claims: how many are reproduced, both numbers of each on one axis, and the table with all remarks."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mann_bench.reports.claims.claim import ClaimVerdict
from mann_bench.reports.claims.display import claims_table
from mann_bench.reports.data.frame import environments
from mann_bench.reports.html.interactive import Scripted, can_draw, scripted
from mann_bench.reports.html.page import Link, environment_lines, machine_line, write_page
from mann_bench.reports.html.table import Cell, Column, Table

ORDER = ("exceeded", "reproduced", "not decided", "not reproduced")


def write_claims_page(verdicts: Sequence[ClaimVerdict], runs: Sequence[Path], out: Path, links: Sequence[Link] = ()) -> Path:
    """Write claims.html into `out`; return its path.

    Args:
        runs: the folders that the verdicts come from; their environments are shown.
        links: other pages about these runs.
    """
    out.mkdir(parents=True, exist_ok=True)
    named = environments(runs)
    tables = (claims_table(verdicts, linked=False), not_run_table(verdicts))
    context = {
        "headline": headline(verdicts),
        "machine": " ".join(machine_line(run) for run in named),
        "links": links,
        "charts": _charts(verdicts),
        "tables": [table for table in tables if table.rows],
        "environments": [environment_lines(run) for run in named],
    }
    return write_page(out / "claims.html", context)


def headline(verdicts: Sequence[ClaimVerdict]) -> str:
    """Count the claims of each verdict in a sentence; one that was judged in several set-ups counts in each."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    judged = sum(counts.values()) - counts["not run"]
    if not judged:
        return "No case of these runs is in a set-up that a claim is about."
    parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ORDER if counts[verdict])  # type: ignore[index]  # words of a Literal
    missing = f"; {counts['not run']} claims not run" if counts["not run"] else ""
    return f"{judged} claims judged: {parts}{missing}."


def not_run_table(verdicts: Sequence[ClaimVerdict]) -> Table:
    """Tabulate the claims that the runs say nothing about, and why."""
    rows = tuple(
        (Cell(v.claim.says), Cell(v.claim.source), Cell(v.claim.paper_text), Cell(" ".join(v.remarks)))
        for v in verdicts
        if v.verdict == "not run"
    )
    columns = (Column("claim", wraps=True), Column("where"), Column("paper", True), Column("why", wraps=True))
    return Table("Claims not run", "What no case of these runs speaks to.", columns, rows)


def _charts(verdicts: Sequence[ClaimVerdict]) -> Scripted | None:
    if not can_draw():
        return None
    from mann_bench.reports.claims.charts import make_charts

    return scripted(make_charts(verdicts))
