"""The interactive charts of the scaling page: any quantity against any field that a run varies, drawn by Vega-Lite in the reader's browser.

A *view* is what a chart shows at once: the field on its x axis, and the values of all others. Only views that the run has are offered.
The page's script (`templates/chart.js`) picks the rows of a view and a quantity, divides them by a baseline, and hands them to Vega.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import altair
import numpy as np
import pandas as pd

from mann_bench.data.case import Case
from mann_bench.data.fields import JsonObject
from mann_bench.data.labels import Labels
from mann_bench.reports.analysis.scaling import Growth
from mann_bench.reports.data.axes import AXES
from mann_bench.reports.data.frame import setting_texts
from mann_bench.reports.data.quantity import PASS, PEAK, RECALL, TAPE, TIME
from mann_bench.reports.html.colors import DASHES
from mann_bench.reports.html.interactive import faded, number, script_json, unchecked, vega_scripts

SHOWN = (TIME, TAPE, PASS, PEAK, RECALL)
FIT_POINTS = 17  # that a fitted curve is drawn through
VEGA_DASHES = {"-": [1, 0], "--": [6, 3], ":": [2, 2], "-.": [6, 2, 2, 2], "-..": [6, 2, 2, 2, 2, 2]}


class Chart(NamedTuple):
    """What the page draws its charts from.

    Attributes:
        content: JSON with the specification, rows and fits; it cannot end a `<script>`.
        vega: the scripts of Vega, Vega-Lite and Vega-Embed.
        views: (key, text) of each view, in the order of the run.
        quantities: (key, title) of each quantity that the run has.
        curves: names of the curves.
    """

    content: str
    vega: str
    views: list[tuple[str, str]]
    quantities: list[tuple[str, str]]
    curves: list[str]


@unchecked()
def make_chart(
    frame: pd.DataFrame, fits: Mapping[str, Mapping[tuple[str, str], Growth]], colors: Mapping[str, str], main: str, axis: str = "slots"
) -> Chart | None:
    """Make the charts of a run; None if nothing was measured.

    Args:
        fits: by the quantity's key, then by (setting, curve).
        colors: by curve.
        main: the setting that is shown first.
        axis: the field on the x axis of the view that is shown first; of those but `slots`, the view with the most cases.
    """
    measured = frame[(frame["status"] == "ok") & frame["step_ms_median"].notna()]
    if measured.empty:
        return None
    rows, views = _rows(measured), {}
    cases: dict[str, int] = {}
    for field, settings in _views(measured):
        for setting, part in measured.groupby(settings, sort=False):
            if part[field].nunique() > 1 or setting == main:
                views[f"{field}|{setting}"] = f"{setting}, against {AXES[field]}"
                cases[f"{field}|{setting}"] = len(part)
        for row, setting in zip(rows, settings, strict=True):
            row["in"].append(f"{field}|{setting}")
    offered = [view for view in views if view.startswith(f"{axis}|")]
    first = max(offered, key=lambda view: cases[view]) if offered and axis != "slots" else f"slots|{main}"
    ordered = sorted(views.items(), key=lambda view: view[0] != first)
    quantities = {quantity.key: quantity for quantity in SHOWN if measured[quantity.column].notna().any()}
    curves = [curve for curve in colors if curve in set(measured["curve"])]
    content = {
        "specification": _specification(curves, colors, measured),
        "axes": AXES,
        "curves": curves,
        "quantities": {
            key: {"title": quantity.title, "axis": quantity.axis, "bytes": quantity.is_bytes} for key, quantity in quantities.items()
        },
        "cases": rows,
        "fits": list(_fit_rows(fits)),
    }
    return Chart(script_json(content), vega_scripts(), ordered, [(key, quantity.title) for key, quantity in quantities.items()], curves)


def _views(measured: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Each field that varies (N always), with what all cases of a view have in common when it is on the x axis."""
    for axis in AXES:
        if axis == "slots" or measured[axis].nunique() > 1:
            yield axis, setting_texts(measured, without=axis)


def _rows(measured: pd.DataFrame) -> list[JsonObject]:
    """One row a case: its curve, its fields that can be an axis, the value and interval of each quantity, and its warnings."""
    label = Labels(Case(**{name: row[name] for name in Case.model_fields}) for row in measured.to_dict("records"))
    rows = []
    for row in measured.to_dict("records"):
        values = {}
        for quantity in SHOWN:
            ends = (row[quantity.low], row[quantity.high]) if quantity.low and quantity.high else ()
            values[quantity.key] = [number(value) for value in (row[quantity.column], *ends)]
        rows.append(
            {
                "curve": row["curve"],
                "case": row["case_id"],
                "label": label(Case(**{name: row[name] for name in Case.model_fields})),
                "warnings": row["warnings"],
                "in": [],
                **{axis: int(row[axis]) for axis in AXES},
                "values": values,
            }
        )
    return rows


def _fit_rows(fits: Mapping[str, Mapping[tuple[str, str], Growth]]) -> Iterator[JsonObject]:
    """Points of each fitted curve against N, over the sizes that it was fitted to."""
    for key, of_quantity in fits.items():
        for (setting, curve), fit in of_quantity.items():
            if not fit.is_zero:
                sizes = np.geomspace(fit.slots[0], fit.slots[-1], FIT_POINTS)
                points = [[number(float(n)), number(fit.at(float(n)))] for n in sizes]
                yield {"view": f"slots|{setting}", "curve": curve, "quantity": key, "order": fit.verdict, "points": points}


def _specification(curves: list[str], colors: Mapping[str, str], measured: pd.DataFrame) -> JsonObject:
    """The Vega-Lite specification of one chart. The script sets the data, the titles and the types of the scales."""
    variants = measured.drop_duplicates("curve").set_index("curve")["variant"]
    dashes = [VEGA_DASHES[DASHES.get(str(variants[curve]), "-.")] for curve in curves]
    chosen = altair.selection_point(fields=["curve"], bind="legend", name="chosen")
    color = altair.Color("curve:N", scale=altair.Scale(domain=curves, range=[colors[curve] for curve in curves]), title=None)
    dash = altair.StrokeDash("curve:N", scale=altair.Scale(domain=curves, range=dashes), title=None)
    x = altair.X("x:Q", scale=altair.Scale(type="log", base=2, nice=False), title="x")
    opacity = faded(chosen, 1, 0.06)
    tooltip = [
        altair.Tooltip("label:N", title="case"),
        altair.Tooltip("shown:N", title="value"),
        altair.Tooltip("interval:N", title="95% interval"),
        altair.Tooltip("order:N", title="growth with N"),
        altair.Tooltip("case:N", title="case id"),
        altair.Tooltip("warnings:N", title="warnings"),
    ]
    cases = altair.Chart(altair.NamedData(name="cases")).encode(x=x, color=color)
    y = altair.Y("y:Q", scale=altair.Scale(type="log"), title="y")
    band = cases.mark_area().encode(y=altair.Y("low:Q"), y2=altair.Y2("high:Q"), opacity=faded(chosen, 0.2, 0.02))
    line = cases.mark_line().encode(y=y, strokeDash=dash, opacity=opacity)
    ring = cases.mark_point(size=130, strokeWidth=1).encode(y=y, color=altair.value("#666666"), opacity=faded(chosen, 0.9, 0.06))
    point = cases.mark_point(filled=True, size=55).encode(
        y=y,
        opacity=opacity,
        tooltip=tooltip,
        href=altair.Href("href:N"),
        shape=altair.Shape("curve:N", scale=altair.Scale(domain=curves), title=None),
    )
    fit = (
        altair.Chart(altair.NamedData(name="fits"))
        .mark_line(strokeWidth=1, strokeDash=[1, 3])
        .encode(x=x, y=y, color=color, detail=altair.Detail("curve:N"))
    )
    layers = altair.layer(band, line, fit, ring.transform_filter("datum.warnings !== ''"), point.add_params(chosen))
    chart = (
        layers.configure_legend(orient="bottom", columns=3, symbolLimit=0, labelLimit=400, symbolOpacity=1, labelFontSize=12)
        .configure_axis(labelFontSize=12, titleFontSize=12)
        .configure_view(stroke=None)
    )
    specification: JsonObject = chart.properties(width="container", height=340, autosize=altair.AutoSizeParams(type="fit-x")).to_dict()
    return specification
