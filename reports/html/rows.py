"""Charts with a row for each thing that is compared: its name above, its value with an interval on a logarithmic axis below.

A name stands above its row and not beside it, so that the values have the whole width, on a telephone too.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import altair

from mann_bench.reports.html.colors import INK
from mann_bench.reports.html.interactive import ROW_HEIGHT, Row, faded

SHAPES = ("circle", "triangle-right", "triangle-left", "diamond", "square", "cross", "triangle-down")


def span_of(rows: Iterable[Row], fields: Sequence[str]) -> tuple[float, float]:
    """Return the lowest and highest value above 0 of some fields of the rows."""
    values = [value for row in rows for field in fields if isinstance(value := row[field], int | float) and 0 < value < math.inf]
    return min(values), max(values)


def ticks_in(low: float, high: float, base: int = 10) -> list[float]:
    """Return up to about eight ticks of a logarithmic axis: powers of the base, and what lies between where there are few."""
    first, last = math.floor(math.log(low, base)), math.ceil(math.log(high, base))
    step = max(1, math.ceil((last - first) / 8))
    finer = ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)) if base == 10 and last - first <= 3 else ((1,),)
    inside: list[float] = []
    for parts in finer:
        found = (part * float(base) ** power for power in range(first, last + 1, step) for part in parts)
        inside = [value for value in found if low <= value <= high]
        if len(inside) > 2:
            break
    return inside


class Rows:
    """The layers of such a chart. Its data has `row` (unique), `order`, `name`, `value`, `low`, `high` and `verdict`.

    Args:
        colors: by verdict; each has a shape of its own too.
        title: of the x axis.
        label: Vega's expression for the label of a tick.
        tooltip: title of each field that is shown where a reader points.
        span: lowest and highest value of the x axis.
        ticks: values on it that have a label.
    """

    def __init__(
        self,
        colors: Mapping[str, str],
        title: str,
        label: str,
        tooltip: Mapping[str, str],
        span: tuple[float, float],
        ticks: Sequence[float],
    ) -> None:
        names = list(colors)
        self.x_axis = altair.Axis(labelExpr=label, values=list(ticks), orient="top", title=title, labelOverlap="greedy")
        self.x_scale = altair.Scale(type="log", domain=list(span), nice=False, padding=16)
        order = altair.EncodingSortField("order", op="min")
        self.y = altair.Y("row:N", axis=None, sort=order, scale=altair.Scale(type="point", padding=0.7))
        self.color = altair.Color("verdict:N", scale=altair.Scale(domain=names, range=list(colors.values())), title=None)
        shapes = [SHAPES[number % len(SHAPES)] for number in range(len(names))]
        self.shape = altair.Shape("verdict:N", scale=altair.Scale(domain=names, range=shapes), title=None)
        self.chosen = altair.selection_point(fields=["verdict"], bind="legend", name="chosen")
        self.opacity = faded(self.chosen, 1, 0.1)
        self.tooltip = [altair.Tooltip(f"{field}:N", title=text) for field, text in tooltip.items()]

    def x(self, field: str) -> altair.X:
        """The x axis, for a field."""
        return altair.X(f"{field}:Q", axis=self.x_axis, scale=self.x_scale)

    def layers(self, base: altair.Chart) -> list[altair.Chart]:
        """Return names, intervals and values, in the order in which they are drawn."""
        name = base.mark_text(align="left", dy=-15, fontSize=12, color=INK, limit=altair.ExprRef("width"))
        interval = base.mark_rule(strokeWidth=2).encode(
            x=self.x("low"), x2=altair.X2("high:Q"), y=self.y, color=self.color, opacity=self.opacity
        )
        value = base.mark_point(filled=True, size=90).encode(
            x=self.x("value"), y=self.y, color=self.color, shape=self.shape, opacity=self.opacity, tooltip=self.tooltip
        )
        text = name.encode(x=altair.value(0), y=self.y, text=altair.Text("name:N"), opacity=self.opacity, tooltip=self.tooltip)
        return [text, interval, value.add_params(self.chosen)]

    @staticmethod
    def height() -> altair.Step:
        """The height of a chart that grows with its rows."""
        return altair.Step(ROW_HEIGHT)
