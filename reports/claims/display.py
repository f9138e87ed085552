"""Verdicts about claims as a table of the report, as text and as JSON."""

from collections.abc import Sequence

import numpy as np

from mann_bench.data.fields import Json
from mann_bench.reports.claims.claim import ClaimVerdict
from mann_bench.reports.html.table import Cell, Column, Table


def claims_table(verdicts: Sequence[ClaimVerdict], *, linked: bool = True) -> Table:
    """Tabulate the verdicts; claims that the runs say nothing about are left out.

    Args:
        linked: the page has a row of each case, which links lead to.
    """
    rows = [
        (
            Cell(judged.claim.says),
            Cell(judged.claim.source),
            Cell(judged.claim.paper_text),
            Cell(judged.value_text, judged.value if judged.value is not None else ""),
            Cell(judged.verdict),
            Cell(judged.how),
            Cell(" ".join(judged.remarks)),
            Cell("", "", tuple((case_id[:6], case_id) for case_id in judged.case_ids)) if linked else Cell(" ".join(judged.case_ids)),
        )
        for judged in verdicts
        if judged.verdict != "not run"
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
        Column("cases", wraps=not linked),
    )
    return Table("The paper's claims", note, heads, tuple(rows))


def to_text(judged: ClaimVerdict) -> str:
    """Return the verdict as lines for a terminal."""
    lines = [f"{judged.verdict.upper():15} {judged.claim.says} ({judged.claim.source})"]
    if judged.value is not None or judged.order:
        lines.append(f"{'':15} paper {judged.claim.paper_text}, here {judged.value_text}; {judged.how}")
    lines += [f"{'':15} - {remark}" for remark in judged.remarks]
    if judged.case_ids:
        lines.append(f"{'':15} cases {' '.join(judged.case_ids)}")
    return "\n".join(lines)


def to_json(judged: ClaimVerdict) -> dict[str, Json]:
    """Return the verdict as a JSON object."""
    return {
        "id": judged.claim.id,
        "says": judged.claim.says,
        "source": judged.claim.source,
        "paper": judged.claim.paper,
        "value": judged.value if judged.value is None or np.isfinite(judged.value) else None,
        "order": judged.order or None,
        "ci_low": judged.low,
        "ci_high": judged.high,
        "verdict": judged.verdict,
        "how": judged.how,
        "remarks": list(judged.remarks),
        "case_ids": list(judged.case_ids),
    }
