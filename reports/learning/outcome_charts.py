"""The interactive charts of what became of the seeds: which are at the goal, and how often a character is named right when shown again."""

from collections.abc import Iterator

import altair
import pandas as pd

from mann_bench.reports.html.interactive import Interactive, Row, chooser, faded, finished, only, unchecked
from mann_bench.reports.learning.comparison import not_at_goal
from mann_bench.reports.learning.experiments import Experiment
from mann_bench.reports.learning.looks import vega_looks

Layers = altair.LayerChart | altair.FacetChart  # what altair types layers as


@unchecked()
def goal_chart(experiment: Experiment, number: int) -> Interactive | None:
    """Draw the share of seeds that are not at the goal (Kaplan-Meier); None where no curve has several seeds, or the level grows."""
    if experiment.has_curriculum or not any(len(curve.trained) > 1 for curve in experiment.curves):
        return None
    names, color, dash = vega_looks(experiment)
    x = altair.X("x:Q", title="training sequences", axis=altair.Axis(grid=False, format=",.0f", tickCount=5))
    y = altair.Y("y:Q", title="share of seeds", scale=altair.Scale(domain=[0, 1]), axis=altair.Axis(format="%", tickCount=5))
    chosen = altair.selection_point(fields=["curve"], bind="legend", name="chosen")
    base = altair.Chart(altair.NamedData(name="rows")).transform_filter("only === null || datum.curve === only")
    base = base.encode(x=x, y=y, color=color, opacity=faded(chosen, 1, 0.06))
    tooltip = [altair.Tooltip(f"{field}:N", title=title) for field, title in (("curve", "curve"), ("text", "seeds"))]
    steps = base.mark_line(interpolate="step-after", strokeWidth=2).encode(strokeDash=dash)
    ended = base.transform_filter("datum.ended > 0").mark_point(shape="cross", filled=True, size=90).encode(tooltip=tooltip)
    points = base.mark_point(filled=True, size=45).encode(tooltip=tooltip).add_params(chosen)
    chart: Layers = altair.layer(steps, points, ended).add_params(only("curve", names))
    specification = finished(chart.properties(title="Seeds not at the goal"))
    title = f"Seeds not at the goal: {experiment.title}"
    return Interactive(f"goal-{number}", title, specification, list(_goal_rows(experiment)), "A cross: a seed ended before its goal.")


def _goal_rows(experiment: Experiment) -> Iterator[Row]:
    for curve in experiment.curves:
        ends = [run.sequences for run in curve.trained if run.sequences_to_goal is None]
        for step in not_at_goal(curve) if curve.trained else ():
            ended = ends.count(int(step.sequences)) if step.sequences else 0
            text = f"{step.share:.0%} not at the goal after {step.sequences:,.0f} sequences"
            text += f"; {ended} ended before" if ended else ""
            yield {"curve": curve.name, "x": step.sequences, "y": step.share, "ended": ended, "text": text}


@unchecked()
def instance_chart(experiment: Experiment, number: int) -> Interactive | None:
    """Draw the fraction of right answers when a character is shown for the first, second, ... time; None but for Omniglot."""
    measured = experiment.evaluations.dropna(subset="error")
    measured = measured[measured["group"] >= 0]
    if experiment.case.task != "omniglot" or measured.empty:
        return None
    names, color, dash = vega_looks(experiment, chance=True)
    levels = {f"L{level}": f"{level} {experiment.unit}" for level in sorted(set(measured["level"]))}
    level = chooser("level", "with", levels)
    shown = sorted(set(measured["group"]))
    ticks, scale = altair.Axis(values=shown, grid=False, format="d"), altair.Scale(nice=False, zero=False, padding=12)
    x = altair.X("x:Q", title="instance of the character in the episode", axis=ticks, scale=scale)
    y = altair.Y("y:Q", title="named right", scale=altair.Scale(domain=[0, 1]), axis=altair.Axis(format="%", tickCount=5))
    chosen = altair.selection_point(fields=["curve"], bind="legend", name="chosen")
    base = altair.Chart(altair.NamedData(name="rows")).transform_filter("datum.level === level")
    base = base.transform_filter("only === null || datum.curve === only || datum.curve === 'chance'")
    base = base.encode(x=x, color=color, opacity=faded(chosen, 1, 0.06))
    tooltip = [altair.Tooltip(f"{f}:N", title=t) for f, t in (("curve", "curve"), ("instance", "instance"), ("text", "named right"))]
    chart: Layers = altair.layer(
        base.mark_rule(strokeWidth=1.2).encode(y=altair.Y("low:Q"), y2=altair.Y2("high:Q")),
        base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash),
        base.mark_point(filled=True, size=50).encode(y=y, tooltip=tooltip).add_params(chosen),
    ).add_params(level, only("curve", names))
    note = "Medians; a vertical line reaches from the lowest to the highest seed."
    specification = finished(chart.properties(title="Accuracy by instance"))
    title = f"Accuracy by instance: {experiment.title}"
    return Interactive(f"instances-{number}", title, specification, list(_instance_rows(experiment, measured)), note)


def _instance_rows(experiment: Experiment, measured: pd.DataFrame) -> Iterator[Row]:
    trained = [curve for curve in experiment.curves if curve.trained]
    for (level_key, group_key), part in measured.groupby(["level", "group"]):
        level, instance = int(str(level_key)), int(str(group_key))
        key = {"level": f"L{level}", "instance": instance}
        for place, curve in enumerate(trained):
            right = 1 - part.loc[part["curve"] == curve.name, "error"]
            if len(right):
                middle, low, high = float(right.median()), float(right.min()), float(right.max())
                beside = instance + 0.05 * (place - (len(trained) - 1) / 2)
                text = f"{middle:.1%} ({low:.1%} to {high:.1%}, {len(right)} seeds)"
                yield {**key, "curve": curve.name, "x": beside, "y": middle, "low": low, "high": high, "text": text}
        chance = 1 - part["chance"].dropna()
        if len(chance):
            guess = float(chance.iloc[0])
            yield {**key, "curve": "chance", "x": float(instance), "y": guess, "low": guess, "high": guess, "text": f"{guess:.1%}"}
