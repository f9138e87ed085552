"""The paper's numbers against ours, a chart for each unit: both on one logarithmic axis, ours in the colour of its verdict."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import altair

from mann_bench.reports.claims.claim import LEARNING, UNITS, Claim, ClaimVerdict
from mann_bench.reports.html.colors import INK
from mann_bench.reports.html.interactive import BYTES, Interactive, Row, above_zero, finished, number, only, unchecked
from mann_bench.reports.html.rows import Rows, span_of, ticks_in

COLORS = {"not reproduced": "#b00020", "exceeded": "#08407a", "reproduced": "#0a6bcc", "not decided": "#b8860b"}


class Unit(NamedTuple):
    """A unit of claims: the title of its chart and axis, and Vega's expression for the label of a tick."""

    title: str
    axis: str
    label: str


CHARTS = {
    "times": Unit("How many times less SAM takes", "times", "format(datum.value, ',') + 'x'"),
    "ms": Unit("Time", "time a step", "datum.value < 1000 ? datum.value + ' ms' : datum.value / 1000 + ' s'"),
    "bytes": Unit("Memory", "bytes", BYTES),
    "count": Unit("Levels and tasks", "levels of the curriculum, or tasks", "format(datum.value, ',')"),
}


@unchecked()
def make_charts(verdicts: Sequence[ClaimVerdict]) -> list[Interactive]:
    """Make a chart for each unit in which a claim has a number of the paper and one of ours."""
    return [chart for unit in CHARTS if (chart := _chart(unit, [v for v in verdicts if unit_of(v.claim) == unit])) is not None]


def unit_of(claim: Claim) -> str:
    """Return the unit of a claim's number; "" for one about an order of growth."""
    if claim.kind in ("ratio", "as_well", "faster"):
        return "times"
    if claim.kind == "order":
        return ""
    return "count" if claim.kind in LEARNING else UNITS[claim.quantity]


def _chart(unit: str, verdicts: Sequence[ClaimVerdict]) -> Interactive | None:
    every = list(_rows(verdicts))
    ours, _ = above_zero(every, "value")
    rows, _ = above_zero(ours, "paper")
    if not rows:
        return None
    shown = [verdict for verdict in COLORS if any(row["verdict"] == verdict for row in rows)]
    about = CHARTS[unit]
    low, high = span_of(rows, ("paper", "value", "low", "high"))
    span = (low / 1.3, high * 1.3)
    fields = {"name": "claim", "source": "where", "paper_text": "paper", "ours_text": "here", "verdict": "verdict", "how": "how"}
    look = Rows(
        {verdict: COLORS[verdict] for verdict in shown},
        about.axis,
        about.label,
        fields,
        span,
        ticks_in(*span, 2 if unit == "bytes" else 10),
    )
    base = altair.Chart(altair.NamedData(name="rows")).transform_filter("only === null || datum.verdict === only")
    way = base.mark_rule(strokeDash=[2, 2], color="#999999").encode(x=look.x("paper"), x2=altair.X2("value:Q"), y=look.y)
    paper = base.mark_tick(color=INK, thickness=3, height=14).encode(x=look.x("paper"), y=look.y, tooltip=look.tooltip)
    layers = altair.layer(way, *look.layers(base), paper).add_params(only("verdict", shown))
    left_out = [f"{row['name']} (paper {row['paper_text']}, here {row['ours_text']})" for row in every if row not in rows]
    note = "Black bars: the paper; marks: here, with the 95% interval."
    note += f" Zero, or no number, has no place on a logarithmic axis: {'; '.join(left_out)}." if left_out else ""
    specification = finished(layers.properties(title=about.title), Rows.height())
    return Interactive(f"claims-{unit}", f"{about.title}: the paper's numbers and ours", specification, rows, note)


def _rows(verdicts: Iterable[ClaimVerdict]) -> Iterable[Row]:
    judged = [verdict for verdict in verdicts if verdict.value is not None and verdict.claim.paper is not None]
    for order, verdict in enumerate(judged):
        claim, value = verdict.claim, float(verdict.value or 0)
        ends = [number(end) for end in (verdict.low, verdict.high)]
        yield {
            "row": f"{claim.id} {order}",
            "order": order,
            "name": claim.says + (f" ({apart})" if (apart := _apart(verdict, judged)) else ""),
            "source": claim.source,
            "paper": claim.paper,
            "value": value,
            "low": ends[0] if ends[0] and ends[0] > 0 else value,
            "high": ends[1] if ends[1] else value,
            "verdict": verdict.verdict,
            "paper_text": claim.paper_text,
            "ours_text": verdict.value_text,
            "how": verdict.how,
        }


def _apart(verdict: ClaimVerdict, judged: Sequence[ClaimVerdict]) -> str:
    """What tells a verdict from the others about its claim: the parts of its set-up that these do not have; "" if there are none."""
    others = [_setup(other) for other in judged if other.claim == verdict.claim and other is not verdict]
    return ", ".join(part for part in _setup(verdict) if others and not all(part in other for other in others))


def _setup(verdict: ClaimVerdict) -> list[str]:
    text = ", ".join([verdict.how.replace("; ", ", "), *(remark.rstrip(".") for remark in verdict.remarks[-1:])])
    return [part for part in re.split(r",\s", text) if not part.startswith("median of")]
