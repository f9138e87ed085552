"""Interactive charts for any page: Vega-Lite specifications with their rows, and the scripts that draw them without a network.

A chart's selectors are parameters of its specification, which Vega shows as lists that a keyboard can work.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from mann_bench.data.fields import JsonObject
from mann_bench.data.kept import kept_text

if TYPE_CHECKING:
    import altair

Row = Mapping[str, Any]
NARROW = 600  # pixels; a narrower window has fewer columns in a legend
HEIGHT = 320  # pixels of a chart against an x axis
ROW_HEIGHT = 40  # pixels of a row of a chart with names above its rows
_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
BYTES = "".join(f"abs(datum.value) >= {size} ? format(datum.value / {size}, '.3~r') + ' {unit}' : " for unit, size in _UNITS)
BYTES += "format(datum.value, '.3~r') + ' B'"  # an expression of Vega: the label of a tick in bytes
DURATION = "datum.value < 60 ? format(datum.value, '.3~r') + ' s' : datum.value < 3600 ? format(datum.value / 60, '.3~r') + ' min' : "
DURATION += "format(datum.value / 3600, '.3~r') + ' h'"  # the label of a tick in seconds
BYTE_TICKS = {"expr": "sequence(0, domain('x')[1] * 1.001, pow(2, ceil(log(max(8, domain('x')[1]) / (width < 420 ? 3 : 6)) / LN2)))"}


@dataclass(frozen=True)
class Interactive:
    """A chart of a page.

    Attributes:
        key: its HTML id.
        title: what it shows, for a reader who does not see it.
        specification: for Vega-Lite; its data is named "rows".
        rows: what it draws; also its CSV.
        note: how to read it, and what could not be drawn.
    """

    key: str
    title: str
    specification: JsonObject
    rows: Sequence[Row]
    note: str = ""


@dataclass(frozen=True)
class Scripted:
    """The charts of a page as the templates show them: `content` is JSON that cannot end a `<script>`, `vega` the scripts that draw it."""

    charts: Sequence[Interactive]
    content: str
    vega: str


def can_draw() -> bool:
    """Whether the packages that make the charts are installed, which a machine that only measures does not need."""
    return bool(find_spec("altair") and find_spec("vl_convert"))


@contextmanager
def unchecked() -> Iterator[None]:
    """Let altair make charts without checking every part of them against its schema, which takes longer than to make them. Tests check."""
    with without_checks():
        yield


def without_checks() -> AbstractContextManager[None]:
    """Altair's own means for that; the tests replace it."""
    from altair.utils.schemapi import debug_mode

    return debug_mode(False)


def scripted(charts: Iterable[Interactive]) -> Scripted | None:
    """Return the charts with all that a page needs to draw them; None without charts."""
    kept = [chart for chart in charts if chart.rows]
    if not kept:
        return None
    content = {chart.key: _with_rows(chart) for chart in kept}
    return Scripted(kept, script_json(content), vega_scripts())


def script_json(content: object) -> str:
    """Return JSON that can stand in a `<script>` whatever its texts are."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


@cache
def vega_scripts() -> str:
    """Return Vega, Vega-Lite and Vega-Embed for a page without a network; to bundle them takes seconds, so they are kept."""
    import vl_convert

    def bundle() -> str:
        scripts = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # whose stub lacks the default
        return scripts.replace("</script", "<\\/script")

    return kept_text(f"vega-of-vl-convert-{version('vl-convert-python')}.js", bundle)


def finished(chart: "altair.LayerChart | altair.FacetChart | altair.Chart", height: "int | altair.Step" = HEIGHT) -> JsonObject:
    """Return the specification of a chart that is as wide as its place, with the look that all charts share."""
    import altair

    shown = (
        chart.configure_legend(
            orient="bottom",
            columns=altair.ExprRef(f"windowSize()[0] < {NARROW} ? 2 : 5"),
            symbolLimit=0,
            labelLimit=260,
            symbolOpacity=1,
            labelFontSize=12,
        )
        .configure_axis(labelFontSize=12, titleFontSize=12, labelOverlap="greedy", labelSeparation=6)
        .configure_view(stroke=None)
        .configure_title(anchor="start")
    )
    specification: JsonObject = shown.properties(
        width="container", height=height, autosize=altair.AutoSizeParams(type="fit-x", contains="padding")
    ).to_dict()
    return specification


def chooser(name: str, text: str, options: Mapping[str, str], first: str | None = None) -> "altair.Parameter":
    """Return a list to choose from, shown beside a chart.

    Args:
        name: of the parameter, in expressions.
        text: what stands before the list.
        options: text of each value.
        first: the value chosen at first; by default the first one.
    """
    import altair

    binding = altair.binding_select(options=list(options), labels=list(options.values()), name=f"{text} ")
    return altair.param(name=name, bind=binding, value=first or next(iter(options)))


def only(text: str, names: Sequence[str]) -> "altair.Parameter":
    """Return a list that leaves one of the names, or all: `ONLY` is the filter that goes with it."""
    import altair

    binding = altair.binding_select(options=[None, *names], labels=["all", *names], name=f"{text} ")
    return altair.param(name="only", bind=binding, value=None)


def faded(chosen: "altair.Parameter", shown: float, otherwise: float) -> "altair.OpacityValue":
    """Return an opacity of what is chosen, and one of all else."""
    import altair

    return altair.OpacityValue(**altair.condition(chosen, altair.value(shown), altair.value(otherwise)))


def number(value: float | None) -> float | None:
    """Return the value with six digits; None for what JSON, and an axis, does not have."""
    return float(f"{value:.6g}") if value is not None and np.isfinite(value) else None


def above_zero(rows: Iterable[Row], field: str) -> tuple[list[Row], int]:
    """Return the rows that a logarithmic axis can show, and how many it cannot: those of zero, of less, and without a number."""
    every = list(rows)
    drawn = [row for row in every if isinstance(value := row[field], int | float) and np.isfinite(value) and value > 0]
    return drawn, len(every) - len(drawn)


def _with_rows(chart: Interactive) -> dict[str, object]:
    others = chart.specification.get("datasets", {})  # such as the place of a line at 1
    return {**chart.specification, "datasets": {**others, "rows": [_clean(row) for row in chart.rows]}}


def _clean(row: Row) -> dict[str, object]:
    return {name: number(value) if isinstance(value, float) else value for name, value in row.items()}
