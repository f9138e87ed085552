"""The forest plot of a comparison: the ratio of each case with its interval, sorted, in the colour of its verdict."""

from collections.abc import Iterator, Sequence

import altair

from mann_bench.reports.compare.comparison import CaseComparison
from mann_bench.reports.compare.display import size_change
from mann_bench.reports.html.interactive import Interactive, Row, above_zero, chooser, finished, only, unchecked
from mann_bench.reports.html.rows import Rows, span_of, ticks_in

# Red and blue differ for every reader, and each verdict has a shape of its own.
COLORS = {
    "SLOWER": "#b00020",
    "LARGER": "#b00020",
    "FASTER": "#0a6bcc",
    "SMALLER": "#0a6bcc",
    "INCONCLUSIVE": "#b8860b",
    "SAME": "#666666",
    "NOT IN TURN": "#7b4fa3",
}
QUANTITIES = {
    "time": "time a step",
    "peak_bytes": "peak memory",
    "bytes_per_step": "bytes kept a step",
    "tape_bytes": "bytes kept for backward",
    "state_bytes": "bytes of the state",
}
TICKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 4, 5, 7, 10, 20, 50)
LEAST_SPAN = 1.15  # of the axis, so that a change of nothing is not drawn as one
MOST_ROWS = 200  # of one quantity: those that changed the most; the table has all


@unchecked()
def make_chart(cases: Sequence[CaseComparison], threshold: float) -> Interactive:
    """Make the chart. What has no ratio (a case that one side did not run, zero bytes) is in the table alone.

    Args:
        threshold: a change of time by less than this fraction is the SAME, which a band shows.
    """
    every = [row for case in cases for row in _rows(case, threshold)]
    usable, hidden = above_zero(every, "value")
    rows: list[Row] = []
    for quantity in QUANTITIES:
        of_quantity = sorted((row for row in usable if row["quantity"] == quantity), key=lambda row: -_far(row))[:MOST_ROWS]
        ordered = sorted(of_quantity, key=lambda row: -row["value"])
        rows += [{"row": f"{quantity} {number}", "order": number, **row} for number, row in enumerate(ordered)]
    offered = {key: text for key, text in QUANTITIES.items() if any(row["quantity"] == key for row in rows)}
    verdicts = [verdict for verdict in COLORS if any(row["verdict"] == verdict for row in rows)]
    low, high = span_of(rows, ("value", "low", "high")) if rows else (1.0, 1.0)
    span = (min(low, 1 / LEAST_SPAN), max(high, LEAST_SPAN))
    look = Rows(
        {verdict: COLORS[verdict] for verdict in verdicts},
        "B / A: right of 1, B takes more",
        "datum.value + 'x'",
        {"name": "case", "shown": "B / A", "detail": "A and B", "verdict": "verdict"},
        span,
        [tick for tick in TICKS if span[0] <= tick <= span[1]] if span[1] < 100 * span[0] else ticks_in(*span),
    )
    base = altair.Chart(altair.NamedData(name="rows")).transform_filter("datum.quantity === quantity")
    base = base.transform_filter("only === null || datum.verdict === only")
    band = altair.Chart(altair.InlineData(values=[{"from": 1 / (1 + threshold), "to": 1 + threshold}]))
    marks = [
        band.mark_rect(color="#efefef").encode(x=altair.X("from:Q", axis=look.x_axis, scale=look.x_scale), x2=altair.X2("to:Q")),
        altair.Chart(altair.InlineData(values=[{"one": 1}])).mark_rule(color="#1c1c1c").encode(x=look.x("one")),
        *look.layers(base),
    ]
    chart = altair.layer(*marks).add_params(chooser("quantity", "ratio of", offered or QUANTITIES), only("verdict", verdicts))
    note = "Sorted, the largest first; lines are 95% intervals of a ratio of times."
    note += f" The band is what counts as the same time ({threshold:.0%})."
    note += f" {hidden} ratios do not exist (zero, or not measured on both sides): see the table." if hidden else ""
    if len(usable) > len(rows):
        note += f" The {MOST_ROWS} cases of each quantity that changed the most."
    return Interactive("forest", "Ratio of each case with its interval", finished(chart, Rows.height()), rows, note)


def _rows(case: CaseComparison, threshold: float) -> Iterator[Row]:
    name, model = case.label, case.case.model
    if case.ratio is not None and case.step_ms is not None:
        low, high = (case.change.low, case.change.high) if case.change else (case.ratio, case.ratio)
        yield {
            "name": name,
            "model": model,
            "quantity": "time",
            "value": case.ratio,
            "low": low,
            "high": high,
            "verdict": case.verdict(threshold),
            "shown": f"{case.ratio:.3f} [{low:.3f}, {high:.3f}]" if case.change else f"{case.ratio:.3f}, not judged",
            "detail": f"{case.step_ms[0]:.4g} and {case.step_ms[1]:.4g} ms a step",
        }
    for quantity, (before, after) in case.sizes.items():
        ratio = after / before if before else float("nan")
        yield {
            "name": name,
            "model": model,
            "quantity": quantity,
            "value": ratio,
            "low": ratio,
            "high": ratio,
            "verdict": "LARGER" if after > before else "SMALLER" if after < before else "SAME",
            "shown": f"{ratio:.4f}",
            "detail": size_change(quantity, before, after),
        }


def _far(row: Row) -> float:
    value: float = row["value"]
    return max(value, 1 / value)
