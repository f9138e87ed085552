"""Plots against N: a quantity with its growth, ratios to the twin, and how far each curve got. Every point links to its case."""

from collections.abc import Sequence
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mann_bench.data.units import format_bytes, format_slots, format_times
from mann_bench.reports.analysis.ratios import Ratio
from mann_bench.reports.analysis.scaling import Scaling
from mann_bench.reports.data.quantity import Quantity
from mann_bench.reports.html.plots import (
    DASHES,
    INK,
    CurveEnd,
    blank,
    color_of,
    label_ends,
    literal,
    log_y,
    mark_cases,
    set_y_ticks,
    styled,
)


def set_axes(axes: Axes, values: Sequence[float] | pd.Series) -> None:
    """Make both axes logarithmic; N is written in binary units. `values` are those that will be drawn."""
    axes.set_xscale("log", base=2)
    log_y(axes, values)
    axes.set_xlabel("memory slots N")
    axes.xaxis.set_major_locator(LogLocator(base=4, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_slots(int(value)) if value >= 1 else ""))


@styled
def draw_quantity(frame: pd.DataFrame, quantity: Quantity, fits: dict[tuple[str, str], Scaling], setting: str) -> Figure:
    """Draw one quantity of one setting against N, with 95% intervals; each curve is labelled with its exponent at the largest N."""
    figure, axes = blank(quantity.title, setting)
    part = frame[(frame["setting"] == setting) & (frame["status"] == "ok")]
    set_axes(axes, part[quantity.column])
    ends = []
    for number, (name, curve) in enumerate(part.groupby("curve", sort=False)):
        curve = curve.sort_values("slots")
        color = color_of(str(curve["model"].iloc[0]), number)
        dashes = DASHES.get(str(curve["variant"].iloc[0]), "-.")
        axes.plot(curve["slots"], curve[quantity.column], dashes, color=color, linewidth=1.6)
        mark_cases(axes, curve["slots"], curve[quantity.column], color, number, curve["case_id"])
        if quantity.low and quantity.high:
            axes.fill_between(curve["slots"], curve[quantity.low], curve[quantity.high], color=color, alpha=0.25, linewidth=0)
        fit = fits.get((setting, str(name)))
        growth = "" if fit is None else "0" if fit.exponent is None else format_power(fit.exponent.value)
        text = f"{name}  {growth}".rstrip()
        ends.append(CurveEnd(float(curve["slots"].iloc[-1]), float(curve[quantity.column].iloc[-1]), text, color))
    label_ends(axes, ends)
    axes.set_ylabel(quantity.axis)
    set_y_ticks(axes, 4 if quantity.is_bytes else 10)  # bytes at 64 KiB, 256 KiB, 1 MiB
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value) if quantity.is_bytes else format_times(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return figure


@styled
def draw_ratios(ratios: Sequence[Ratio], setting: str, kind: Literal["time", "memory"]) -> Figure:
    """Draw how many times faster a curve is than its twin, or how many times less memory a step it takes, against N.

    A ratio of memory where one side keeps nothing does not exist: it is left out.
    """
    title = "Times faster than the twin" if kind == "time" else "Times less memory a step than the twin"
    figure, axes = blank(title, setting)
    pairs: dict[tuple[str, str], list[Ratio]] = {}
    for ratio in ratios:
        if ratio.setting == setting:
            pairs.setdefault((ratio.subject, ratio.twin), []).append(ratio)
    set_axes(axes, ())
    ends = []
    for number, ((subject, twin), pair) in enumerate(pairs.items()):
        pair = [ratio for ratio in pair if kind == "time" or ratio.tape_ratio is not None]
        if not pair:
            continue
        slots, values = [ratio.slots for ratio in pair], [ratio.speedup if kind == "time" else ratio.tape_ratio or 0.0 for ratio in pair]
        color = color_of(pair[0].twin_model, number)
        axes.plot(slots, values, "-" if twin == pair[0].twin_model else "--", color=color, linewidth=1.6)
        mark_cases(axes, slots, values, color, number, [ratio.subject_case for ratio in pair])
        if kind == "time":
            low, high = [ratio.speedup_low for ratio in pair], [ratio.speedup_high for ratio in pair]
            axes.fill_between(slots, low, high, color=color, alpha=0.2, linewidth=0)
        ends.append(CurveEnd(float(slots[-1]), values[-1], f"{subject} : {twin}", color))
    label_ends(axes, ends)
    axes.axhline(1, color=INK, linewidth=1)
    axes.set_ylabel("times")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return figure


@styled
def draw_survival(frame: pd.DataFrame, setting: str) -> Figure:
    """Draw the range of N that each curve ran at, and why it ended there."""
    figure, axes = blank("How far each curve got", setting)
    part = frame[frame["setting"] == setting]
    curves = {str(name): curve.sort_values("slots") for name, curve in part.groupby("curve", sort=False)}
    names = list(curves)
    figure.subplots_adjust(left=0.24, right=0.8)
    axes.set_xscale("log", base=2)
    for height, name in enumerate(reversed(names)):
        curve = curves[name]
        color = color_of(str(curve["model"].iloc[0]), height)
        ran = curve[curve["status"] == "ok"]
        failed = curve[curve["status"] != "ok"]
        if len(ran):
            axes.plot([ran["slots"].min(), ran["slots"].max()], [height, height], color=color, linewidth=4, solid_capstyle="butt")
            mark_cases(axes, ran["slots"], [height] * len(ran), color, 0, ran["case_id"])
        text = f"{failed['status'].iloc[0]} at {format_slots(int(failed['slots'].iloc[0]))}" if len(failed) else "end of sweep"
        end = float(ran["slots"].max() if len(ran) else failed["slots"].min())
        axes.annotate(text, (end, height), (8, 0), textcoords="offset points", va="center", fontsize=8, annotation_clip=False)
    axes.set_yticks(range(len(names)), [literal(name) for name in reversed(names)], fontsize=8.5)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlabel("memory slots N")
    axes.xaxis.set_major_locator(LogLocator(base=4, numticks=10))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_slots(int(value)) if value >= 1 else ""))
    return figure


def format_power(exponent: float) -> str:
    """Format an exponent: `N^0.98`; zero has no sign."""
    return f"N^{exponent:.2f}".replace("-0.00", "0.00")
