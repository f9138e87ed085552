"""The interactive charts of training runs. A thin line is a seed, a thick one the median: seeds of one model never hide another's."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import altair
import numpy as np

from mann_bench.data.units import format_duration
from mann_bench.learn.under_way import UnderWay
from mann_bench.reports.html.colors import INK
from mann_bench.reports.html.interactive import DURATION, Interactive, Row, above_zero, chooser, faded, finished, only, unchecked
from mann_bench.reports.html.rows import span_of, ticks_in
from mann_bench.reports.learning.experiments import Experiment, X, Y
from mann_bench.reports.learning.looks import MIN_LOSS, vega_looks
from mann_bench.reports.learning.outcome_charts import goal_chart, instance_chart

MOST_POINTS = 80  # of a line
TIMES = (0.1, 1, 10, 60, 600, 3600, 36_000, 360_000)  # ticks of a logarithmic axis of seconds
ALONG = {"sequences": "training sequences", "wall_s": "training time"}
OF = {"level": "level of the curriculum", "loss": "loss, bits", "errors": "share of wrong answers"}
SEEDS = {"lines": "a line each", "band": "lowest to highest", "none": "hidden"}
HELD_OUT = {"curve": "curve", "level": "level", "text": "errors", "where": "level was"}
Channel = TypeVar("Channel", altair.X, altair.Y)
Point = TypeVar("Point")
Layers = altair.LayerChart | altair.FacetChart  # what altair types layers as


@unchecked()
def make_charts(experiment: Experiment, number: int) -> list[Interactive]:
    """Make the charts of an experiment that have something to show; `number` tells them from those of other experiments."""
    charts = [
        _training(experiment, number),
        goal_chart(experiment, number),
        _levels(experiment, number),
        instance_chart(experiment, number),
    ]
    return [chart for chart in charts if chart is not None and chart.rows]


@unchecked()
def under_way_chart(runs: Sequence[UnderWay]) -> Interactive:
    """Draw the loss of runs under way, a line each, against sequences."""
    every: list[Row] = [
        {"curve": run.name, "task": run.case.task, "x": point.sequences, "y": max(point.loss, MIN_LOSS), "level": point.level}
        for run in runs
        for point in _thinned(run.curve)
    ]
    rows, _ = above_zero(every, "y")
    names = list(dict.fromkeys(row["curve"] for row in rows))
    x = altair.X("x:Q", title="training sequences", axis=altair.Axis(grid=False))
    y = altair.Y("y:Q", title="loss, bits", scale=altair.Scale(type="log"), axis=altair.Axis(tickCount=6))
    base = altair.Chart(altair.NamedData(name="rows")).transform_filter("only === null || datum.curve === only")
    base = base.encode(x=x, y=y, color=altair.Color("curve:N", scale=altair.Scale(domain=names), title=None))
    points = base.mark_point(filled=True, size=25).encode(tooltip=["curve:N", "task:N", "x:Q", "y:Q", "level:Q"])
    chart: Layers = altair.layer(base.mark_line(strokeWidth=1), points).add_params(only("run", names))
    specification = finished(chart.properties(title="Runs under way"))
    return Interactive("under-way", "Loss of runs under way", specification, rows, "As of the last checkpoint of each run.")


def _training(experiment: Experiment, number: int) -> Interactive:
    rows = list(_training_rows(experiment))
    names, color, dash = vega_looks(experiment)
    offered = {key: text for key, text in OF.items() if any(row["of"] == key for row in rows)}
    of, along = chooser("of", "shown", offered or OF), chooser("along", "against", ALONG)
    seeds = chooser("seeds", "seeds", SEEDS)
    label = f"along === 'wall_s' ? ({DURATION}) : format(datum.value, ',')"
    x = _axis(altair.X, "x", "along", rows, log=experiment.has_curriculum, label=label)
    y = _axis(altair.Y, "y", "of", rows, log=True, label="format(datum.value, ',~g')")
    chosen = altair.selection_point(fields=["curve"], bind="legend", name="chosen")
    base = altair.Chart(altair.NamedData(name="rows")).transform_filter("datum.of === of && datum.along === along")
    base = base.transform_filter("only === null || datum.curve === only").encode(x=x, color=color)
    thin = faded(chosen, 0.5, 0.04)
    step = altair.ExprRef("of === 'level' ? 'step-after' : 'linear'")
    medians = base.transform_filter("datum.seed === 'median'")
    tooltip = [altair.Tooltip(f"{field}:N", title=title) for field, title in (("curve", "curve"), ("seed", "seed"), ("text", "value"))]
    band = (
        medians.transform_filter("seeds === 'band'")
        .mark_area(interpolate=step)
        .encode(y=altair.Y("low:Q"), y2=altair.Y2("high:Q"), opacity=faded(chosen, 0.15, 0.02))
    )
    lines = base.transform_filter("seeds === 'lines' && datum.seed !== 'median'").mark_line(strokeWidth=0.8, interpolate=step)
    points = medians.mark_point(filled=True, size=70, opacity=0).encode(y=y, tooltip=tooltip)
    goal = experiment.case.curriculum_threshold if experiment.has_curriculum else experiment.case.goal
    mark = altair.Chart(altair.InlineData(values=[{"goal": goal, "of": "loss"}])).transform_filter("of === datum.of")
    layers: Layers = altair.layer(
        mark.mark_rule(strokeDash=[1, 3], color=INK, clip=True).encode(y=altair.Y("goal:Q")),
        band,
        lines.encode(y=y, strokeDash=dash, opacity=thin, detail=altair.Detail("seed:N")),
        medians.mark_line(strokeWidth=2.4, interpolate=step).encode(y=y, strokeDash=dash, opacity=faded(chosen, 1, 0.06)),
        points.add_params(chosen),
    ).add_params(of, along, seeds, only("curve", names))
    title = {"expr": f"{_texts(OF)}[of] + ' against ' + {_texts(ALONG)}[along]"}
    line = "where the level doubles" if experiment.has_curriculum else "the goal"
    note = f"Thick: medians; thin: seeds. The dotted line of the loss is {line}."
    specification = finished(layers.properties(title=altair.TitleParams(text=altair.ExprRef(title["expr"]))))
    return Interactive(f"training-{number}", f"Training curves: {experiment.title}", specification, rows, note)


def _training_rows(experiment: Experiment) -> Iterator[Row]:
    whats: list[Y] = ["level", "loss"] if experiment.has_curriculum else ["loss"]
    if not experiment.counts_bits:
        whats.append("errors")
    alongs: list[X] = ["sequences", "wall_s"]
    for curve in experiment.curves:
        for of in whats:
            for along in alongs:
                band, least = curve.band(along, of), 1 if of == "level" else MIN_LOSS
                if band is None:
                    continue
                key = {"curve": curve.name, "of": of, "along": along}
                for x, y, low, high in _thinned(list(zip(band.x, band.median, band.low, band.high, strict=True))):
                    text = f"{y:.3g} ({low:.3g} to {high:.3g}) at {_x_text(along, x)}"
                    ends = {"y": max(y, least), "low": max(low, least), "high": max(high, least)}
                    yield from _usable({**key, "seed": "median", "x": float(x), **ends, "text": text})
                for run in curve.trained:
                    for point in _thinned(run.curve):
                        x, y = float(getattr(point, along)), float(getattr(point, of))
                        yield from _usable({**key, "seed": str(run.case.seed), "x": x, "y": max(y, least)})


def _usable(row: Row) -> Iterator[Row]:
    """The row, if a logarithmic axis can show it."""
    if all(np.isfinite(row[field]) and row[field] > 0 for field in ("x", "y")):
        yield {**{"low": None, "high": None, "text": ""}, **row}


def _levels(experiment: Experiment, number: int) -> Interactive:
    """Errors on held-out sequences against level: medians, ranges over seeds beside each other, chance."""
    measured = experiment.evaluations.dropna(subset="error")
    measured = measured[measured["group"] == -1]
    rows: list[Row] = []
    names, color, dash = vega_looks(experiment, chance=True)
    if measured["level"].nunique() > 1:
        for place, curve in enumerate(experiment.curves):
            trained = experiment.trained_level(curve)
            for key, errors in measured[measured["curve"] == curve.name].groupby("level")["error"]:
                level = int(str(key))
                beside = level * 1.02 ** (place - (len(experiment.curves) - 1) / 2)
                median, low, high = (float(value) for value in (errors.median(), errors.min(), errors.max()))
                text = f"{median:.3g} ({low:.3g} to {high:.3g}, {len(errors)} seeds)"
                where = "beyond training" if level > trained else "trained on"
                row = {"curve": curve.name, "level": level, "x": beside, "y": median, "low": low, "high": high}
                rows.append({**row, "where": where, "text": text})
        for level_key, guess in measured.dropna(subset="chance").groupby("level")["chance"].first().items():
            level, value = int(str(level_key)), float(guess)
            row = {"curve": "chance", "level": level, "x": float(level), "y": value, "low": value, "high": value}
            rows.append({**row, "where": "", "text": f"{value:.3g}"})
    rows = [row for row in rows if row["x"] > 0 and all(np.isfinite(row[field]) and row[field] >= 0 for field in ("y", "low", "high"))]
    if not rows:
        return Interactive(f"levels-{number}", "", {}, [])
    ticks = sorted({row["level"] for row in rows})
    axis = altair.Axis(
        values=ticks if len(ticks) <= 8 else ticks_in(*span_of(rows, ("x",)), 2), grid=False, labelExpr="format(datum.value, ',')"
    )
    x = altair.X("x:Q", title=experiment.unit, scale=altair.Scale(type="log", base=2, nice=False, padding=12), axis=axis)
    title = "wrong bits a sequence" if experiment.counts_bits else "share of wrong answers"
    y = altair.Y("y:Q", title=title, scale=altair.Scale(type="sqrt"), axis=altair.Axis(tickCount=6))
    chosen = altair.selection_point(fields=["curve"], bind="legend", name="chosen")
    opacity = faded(chosen, 1, 0.06)
    base = altair.Chart(altair.NamedData(name="rows")).transform_filter("only === null || datum.curve === only || datum.curve === 'chance'")
    base = base.encode(x=x, color=color, opacity=opacity)
    tooltip = [
        altair.Tooltip(f"{f}:N", title=t) for f, t in (("curve", "curve"), ("level", "level"), ("text", "errors"), ("where", "level was"))
    ]
    points = base.mark_point(size=55, strokeWidth=1.5, filled=True).encode(y=y, tooltip=tooltip)
    hollow = base.transform_filter("datum.where === 'beyond training'").mark_point(size=22, filled=True)
    layers: Layers = altair.layer(
        base.mark_rule(strokeWidth=1.2).encode(y=altair.Y("low:Q"), y2=altair.Y2("high:Q")),
        base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash),
        points.add_params(chosen),
        hollow.encode(y=y, color=altair.value("white"), tooltip=tooltip),
    ).add_params(only("curve", names))
    note = "Medians; a vertical line reaches from the lowest to the highest seed. Hollow: beyond what the curve was trained on."
    specification = finished(layers.properties(title="Errors on held-out sequences"))
    return Interactive(f"levels-{number}", f"Errors on held-out sequences: {experiment.title}", specification, rows, note)


def _axis(channel: type[Channel], field: str, parameter: str, rows: Sequence[Row], *, log: bool, label: str) -> Channel:
    """An axis whose ends and ticks follow what a list chooses.

    Args:
        channel: `altair.X` or `altair.Y`.
        parameter: the list, and the field of the rows with its choices.
    """
    keys = dict.fromkeys(row[parameter] for row in rows)
    spans = {key: span_of([row for row in rows if row[parameter] == key], (field,)) for key in keys}
    domains = {key: list(span) if log else [0, span[1]] for key, span in spans.items()}
    ticks = {key: TIMES if key == "wall_s" else ticks_in(*span, 2 if key == "level" else 10) for key, span in spans.items()}
    shown = {key: [tick for tick in values if spans[key][0] <= tick <= spans[key][1]] for key, values in ticks.items()}
    domain = altair.ExprRef(f"{json.dumps(domains)}[{parameter}]")
    if not log:
        scale = altair.Scale(nice=False, zero=False, domain=domain)
        return channel(f"{field}:Q", title=None, scale=scale, axis=altair.Axis(labelExpr=label, grid=False, tickCount=5))
    scale = altair.Scale(type="log", nice=False, domain=domain)
    values = altair.ExprRef(f"{json.dumps(shown)}[{parameter}]")
    return channel(f"{field}:Q", title=None, scale=scale, axis=altair.Axis(labelExpr=label, grid=field == "y", values=values))


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """At most MOST_POINTS of the points, the first and the last among them, closer together at the start."""
    if len(points) <= MOST_POINTS:
        return points
    places = np.unique(np.geomspace(1, len(points), MOST_POINTS).round().astype(int)) - 1
    return [points[place] for place in places]


def _x_text(along: str, x: float) -> str:
    return format_duration(float(x)) if along == "wall_s" else f"{x:,.0f} sequences"


def _texts(texts: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"'{key}': '{text}'" for key, text in texts.items()) + "}"
