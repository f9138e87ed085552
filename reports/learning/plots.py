"""Plots of training runs: thick lines are medians over seeds; thin ones are seeds, vertical ones reach from the lowest to the highest."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from mann_bench.data.units import format_duration
from mann_bench.reports.html.colors import FAINT, INK
from mann_bench.reports.html.plot_files import Plot
from mann_bench.reports.html.plots import MARKERS, STYLE, CurveEnd, blank, label_ends, literal, styled
from mann_bench.reports.learning.comparison import not_at_goal
from mann_bench.reports.learning.experiments import Experiment, X, Y
from mann_bench.reports.learning.looks import MIN_LOSS, styled_curves

MIN_SECONDS = 1e-3  # of training; shorter times are drawn here
DURATIONS = (0.1, 1, 10, 60, 600, 3600, 36_000, 360_000)


def plots_of(experiment: Experiment, suffix: str = "") -> Iterator[Plot]:
    """Yield every plot that the experiment has data for; `suffix` tells its files from those of other experiments."""
    for key, title, draw in _drawings(experiment):
        yield Plot(key + suffix, f"{title}, {experiment.title}", draw, _style)


def _style() -> AbstractContextManager[None]:
    return matplotlib.rc_context({**STYLE, "savefig.dpi": 180})


def _drawings(experiment: Experiment) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """Key and title of each plot, and what draws it."""

    def training(x: X, y: Y) -> Callable[[], Figure]:
        return partial(draw_training, experiment, x, y)

    if any(curve.trained for curve in experiment.curves):
        if experiment.has_curriculum:
            yield "level-sequences", "Level against sequences", training("sequences", "level")
            yield "level-time", "Level against time", training("wall_s", "level")
        yield "loss-sequences", "Loss against sequences", training("sequences", "loss")
        if not experiment.has_curriculum:  # with a curriculum the loss stays near the threshold
            yield "loss-time", "Loss against time", training("wall_s", "loss")
            if not experiment.counts_bits:
                yield "errors-time", "Wrong answers against time", partial(draw_wrong_answers, experiment)
            if any(len(curve.trained) > 1 for curve in experiment.curves):
                yield "not-at-goal", "Seeds not at the goal", partial(draw_not_at_goal, experiment)
    measured = experiment.evaluations.dropna(subset="error")
    whole = measured[measured["group"] == -1]
    if whole["level"].nunique() > 1:
        yield "levels", "Errors against level", partial(draw_levels, experiment, whole)
    instances = measured[(measured["group"] >= 0) & (experiment.case.task == "omniglot")]
    for level in sorted(instances["level"].unique()):
        title = f"Accuracy by instance, {level} {experiment.unit}"
        yield f"instances-{level}", title, partial(draw_instances, experiment, instances[instances["level"] == level], title)


@styled
def draw_training(experiment: Experiment, x: X, y: Y) -> Figure:
    """Draw loss or level against training sequences or time."""
    titles = {"loss": "Loss", "level": "Level of the curriculum"}
    figure, axes = blank(f"{titles[y]} against {'sequences' if x == 'sequences' else 'time'}", experiment.title)
    log_x = experiment.has_curriculum or x == "wall_s"
    if log_x:
        axes.set_xscale("log")
    axes.set_yscale("log", base=2 if y == "level" else 10)
    ends = []
    for curve, color, line in styled_curves(experiment.curves):
        band = curve.band(x, y)
        if band is None:
            continue
        least, style = MIN_LOSS if y == "loss" else 1, "steps-post" if y == "level" else "default"
        median = band.median.clip(least)
        for run in curve.trained:
            points = [(max(getattr(point, x), MIN_SECONDS), max(getattr(point, y), least)) for point in run.curve]
            axes.plot(*zip(*points, strict=True), line, color=color, linewidth=0.6, alpha=0.5, drawstyle=style)
        axes.plot(band.x.clip(MIN_SECONDS), median, line, color=color, linewidth=2.2, drawstyle=style)
        ends.append(CurveEnd(float(band.x[-1]), float(median[-1]), curve.name, color, line))
    if y == "loss":
        threshold = experiment.case.curriculum_threshold if experiment.has_curriculum else experiment.case.goal
        _horizontal_line(axes, threshold, "level doubles below" if experiment.has_curriculum else "goal")
        axes.set_ylabel(f"cross-entropy, bits a {'bit' if experiment.counts_bits else 'answer'} asked for")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylabel(literal(experiment.unit))
        integer_axis(axes.yaxis)
    if x == "wall_s":
        duration_axis(axes)
    else:
        axes.set_xlabel("training sequences")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if log_x:
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
    _label(figure, axes, ends)
    return figure


@styled
def draw_wrong_answers(experiment: Experiment) -> Figure:
    """Draw the share of wrong answers in training against time."""
    figure, axes = blank("Wrong answers in training against time", experiment.title)
    axes.set_xscale("log")
    ends = []
    for curve, color, line in styled_curves(experiment.curves):
        band = curve.band("wall_s", "errors")
        if band is None:
            continue
        for run in curve.trained:
            axes.plot(
                [point.wall_s for point in run.curve], [point.errors for point in run.curve], line, color=color, linewidth=0.6, alpha=0.5
            )
        axes.plot(band.x, band.median, line, color=color, linewidth=2.2)
        ends.append(CurveEnd(float(band.x[-1]), float(band.median[-1]), curve.name, color, line))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))
    axes.set_ylabel("answers that are wrong")
    duration_axis(axes)
    _label(figure, axes, ends)
    return figure


@styled
def draw_not_at_goal(experiment: Experiment) -> Figure:
    """Draw the share of seeds that are not at the goal against sequences (Kaplan-Meier); a cross where a seed ended before its goal."""
    figure, axes = blank("Seeds not at the goal", experiment.title)
    ends = []
    for curve, color, line in styled_curves(experiment.curves):
        if not curve.trained:
            continue
        steps = not_at_goal(curve)
        sequences, shares = [step.sequences for step in steps], [step.share for step in steps]
        axes.plot(sequences, shares, line, color=color, linewidth=1.7, drawstyle="steps-post")
        ended = [run.sequences for run in curve.trained if run.sequences_to_goal is None]
        axes.scatter(ended, [shares[sequences.index(x)] for x in ended], s=28, marker="x", color=color, linewidths=1.2, zorder=3)
        ends.append(CurveEnd(sequences[-1], shares[-1], curve.name, color, line))
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlim(left=0)
    axes.set_xlabel("training sequences")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))
    axes.set_ylabel("share of seeds (cross: ended before its goal)")
    _label(figure, axes, ends)
    return figure


@styled
def draw_levels(experiment: Experiment, measured: pd.DataFrame) -> Figure:
    """Draw the error on held-out sequences against level; hollow points are beyond the trained levels, chance is dashed."""
    figure, axes = blank("Errors on held-out sequences", experiment.title)
    chance = measured.dropna(subset="chance").groupby("level")["chance"].first()
    grows = experiment.counts_bits and len(chance) > 0 and chance.max() > 1.5 * chance.min()
    axes.set_xscale("log", base=2)
    if grows:
        axes.set_yscale("symlog", linthresh=1)
    ends = []
    for number, (curve, color, line) in enumerate(styled_curves(experiment.curves)):
        of_curve = measured[measured["curve"] == curve.name].groupby("level")["error"]
        if not len(of_curve):
            continue
        median, low, high = of_curve.median(), of_curve.min(), of_curve.max()
        inside = median.index <= experiment.trained_level(curve)
        axes.plot(median.index, median, line, color=color, linewidth=1.7)
        beside = 1.02 ** (number - (len(experiment.curves) - 1) / 2)
        axes.vlines(median.index * beside, low, high, color=color, linewidth=1)
        for part, face in ((median[inside], color), (median[~inside], "white")):
            marker = MARKERS[number % len(MARKERS)]
            axes.scatter(part.index, part, s=26, marker=marker, facecolors=face, edgecolors=color, linewidths=1.2, zorder=3)
        ends.append(CurveEnd(float(median.index[-1]), float(median.iloc[-1]), curve.name, color, line, number))
    if len(chance):
        axes.plot(chance.index, chance, color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)))
        ends.append(CurveEnd(float(chance.index[-1]), float(chance.iloc[-1]), "chance", FAINT, "--"))
    trained = min(experiment.trained_level(curve) for curve in experiment.curves if curve.trained)
    axes.axvspan(axes.get_xlim()[0], trained, color="#f0f0ea", zorder=0)
    axes.set_xlim(*axes.get_xlim())
    axes.annotate(
        "all trained on",
        (trained, 0.6),
        xycoords=("data", "axes fraction"),
        xytext=(-3, 0),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="center",
        fontsize=8,
        color=FAINT,
    )
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"{literal(experiment.unit)} (hollow: beyond what the curve was trained on)")
    axes.set_ylabel("wrong bits a sequence" if experiment.counts_bits else "share of wrong answers")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    integer_axis(axes.xaxis, sorted(measured["level"].unique()))
    _label(figure, axes, ends)
    return figure


@styled
def draw_instances(experiment: Experiment, measured: pd.DataFrame, title: str) -> Figure:
    """Draw the fraction of right answers when a character is shown for the first, second, ... time."""
    figure, axes = blank(title, experiment.title)
    ends = []
    for number, (curve, color, line) in enumerate(styled_curves(experiment.curves)):
        of_curve = measured[measured["curve"] == curve.name]
        if of_curve.empty:
            continue
        right = (1 - of_curve["error"]).groupby(of_curve["group"])
        median = right.median()
        axes.plot(median.index, median, line, color=color, linewidth=1.7, marker=MARKERS[number % len(MARKERS)], markersize=4.5)
        axes.vlines(median.index + 0.05 * (number - (len(experiment.curves) - 1) / 2), right.min(), right.max(), color=color, linewidth=1)
        ends.append(CurveEnd(float(median.index[-1]), float(median.iloc[-1]), curve.name, color, line, number))
    chance = 1 - measured["chance"].dropna()
    if len(chance):
        axes.axhline(float(chance.iloc[0]), color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)))
        ends.append(CurveEnd(float(measured["group"].max()), float(chance.iloc[0]), "chance", FAINT, "--"))
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_locator(FixedLocator(sorted(measured["group"].unique())))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))
    axes.set_xlabel("instance of the character in the episode")
    axes.set_ylabel("named right")
    _label(figure, axes, ends)
    return figure


def duration_axis(axes: Axes) -> None:
    """Label a logarithmic x axis of seconds in s, min and h."""
    axes.set_xlabel("training time (evaluation left out)")
    axes.xaxis.set_major_locator(FixedLocator(DURATIONS))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_duration(value)))


def integer_axis(axis: Axis, values: Sequence[int] = ()) -> None:
    """Label a logarithmic axis of whole numbers: at the values themselves if these are few and their labels fit, else at powers of two."""
    low, high = axis.get_view_interval()
    apart = min((math.log(after / before) for before, after in itertools.pairwise(values)), default=math.inf)
    few = 0 < len(values) <= 6 and apart > 0.1 * math.log(high / low)
    axis.set_major_locator(FixedLocator(values) if few else LogLocator(base=2 if high < 600 * max(low, 1) else 8, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else ""))
    axis.set_minor_locator(NullLocator())


def _label(figure: Figure, axes: Axes, ends: list[CurveEnd]) -> None:
    """Label the curves; the right margin fits the longest label."""
    longest = max((len(end.text) for end in ends), default=0)
    figure.subplots_adjust(right=max(0.645, 0.94 - 0.0125 * longest))
    label_ends(axes, ends)


def _horizontal_line(axes: Axes, y: float, text: str) -> None:
    axes.axhline(y, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.annotate(text, (0.01, y), xycoords=("axes fraction", "data"), xytext=(0, -3), textcoords="offset points", va="top", fontsize=8)
