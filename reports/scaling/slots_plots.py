"""Plots against N: a quantity with its growth, ratios to the twin, and how far each curve got. Every point links to its case."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from mann_bench.data.units import format_bytes, format_slots, format_times
from mann_bench.reports.analysis.ratios import Ratio
from mann_bench.reports.analysis.scaling import Growth
from mann_bench.reports.data.quantity import Quantity
from mann_bench.reports.html.plots import (
    DASHES,
    INK,
    CurveEnd,
    blank,
    label_ends,
    literal,
    log_y,
    mark_cases,
    set_y_ticks,
    show_nothing,
    styled,
)

MOST_TICKS = 7  # that fit below a plot without touching each other


def set_slots_axis(axes: Axes, slots: Iterable[int]) -> None:
    """Make the x axis a logarithmic one of N, in binary units, with ticks at sizes that were measured."""
    sizes = sorted({int(n) for n in slots}, reverse=True)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("memory slots N")
    apart = math.log(sizes[0] / sizes[-1]) / MOST_TICKS if sizes else 0.0
    ticks: list[int] = []
    for size in sizes:
        if not ticks or math.log(ticks[-1] / size) >= apart:
            ticks.append(size)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_slots(int(value)) if value >= 1 else ""))
    axes.xaxis.set_minor_locator(NullLocator())


@styled
def draw_quantity(
    frame: pd.DataFrame, quantity: Quantity, fits: dict[tuple[str, str], Growth], setting: str, colors: Mapping[str, str]
) -> Figure:
    """Draw one quantity of one setting against N, with 95% intervals; each curve is labelled with the order of its growth."""
    figure, axes = blank(quantity.title, setting)
    part = frame[(frame["setting"] == setting) & (frame["status"] == "ok")]
    if part.empty:
        show_nothing(axes)
        return figure
    set_slots_axis(axes, part["slots"])
    log_y(axes, part[quantity.column])
    ends = []
    largest = part["slots"].max()
    for number, (name, curve) in enumerate(part.groupby("curve", sort=False)):
        curve = curve.sort_values("slots")
        color = colors[str(name)]
        dashes = DASHES.get(str(curve["variant"].iloc[0]), "-.")
        axes.plot(curve["slots"], curve[quantity.column], dashes, color=color, linewidth=1.6)
        mark_cases(axes, curve["slots"], curve[quantity.column], color, number, curve["case_id"], curve["warnings"] != "")
        if quantity.low and quantity.high:
            axes.fill_between(curve["slots"], curve[quantity.low], curve[quantity.high], color=color, alpha=0.25, linewidth=0)
        fit = fits.get((setting, str(name)))
        growth = "" if fit is None else "0" if fit.is_zero else fit.order
        last = int(curve["slots"].iloc[-1])
        text = f"{name}  {growth}".rstrip() + (f", to {format_slots(last)}" if last < largest else "")
        ends.append(CurveEnd(float(last), float(curve[quantity.column].iloc[-1]), text, color, dashes, number))
    label_ends(axes, ends)
    axes.set_ylabel(quantity.axis)
    set_y_ticks(axes, 4 if quantity.is_bytes else 10)  # bytes at 64 KiB, 256 KiB, 1 MiB
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value) if quantity.is_bytes else format_times(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return figure


@styled
def draw_ratios(ratios: Sequence[Ratio], setting: str, kind: Literal["time", "memory"], colors: Mapping[str, str]) -> Figure:
    """Draw how many times faster a curve is than its twin, or how many times less memory a step it takes, against N.

    A ratio of memory where one side keeps nothing does not exist: it is left out.
    """
    title = "Times faster than the twin" if kind == "time" else "Times less memory a step than the twin"
    figure, axes = blank(title, setting)
    pairs: dict[tuple[str, str], list[Ratio]] = {}
    for ratio in ratios:
        if ratio.setting == setting:
            pairs.setdefault((ratio.subject, ratio.twin), []).append(ratio)
    set_slots_axis(axes, [ratio.slots for pair in pairs.values() for ratio in pair])
    log_y(axes, ())
    ends = []
    for number, ((subject, twin), pair) in enumerate(pairs.items()):
        pair = [ratio for ratio in pair if kind == "time" or ratio.tape_ratio is not None]
        if not pair:
            continue
        slots, values = [ratio.slots for ratio in pair], [ratio.speedup if kind == "time" else ratio.tape_ratio or 0.0 for ratio in pair]
        color, dashes = colors[twin], "-" if twin == pair[0].twin_model else "--"
        axes.plot(slots, values, dashes, color=color, linewidth=1.6)
        mark_cases(axes, slots, values, color, number, [ratio.subject_case for ratio in pair], [ratio.warned for ratio in pair])
        if kind == "time":
            low, high = [ratio.speedup_low for ratio in pair], [ratio.speedup_high for ratio in pair]
            axes.fill_between(slots, low, high, color=color, alpha=0.2, linewidth=0)
        ends.append(CurveEnd(float(slots[-1]), values[-1], f"{subject} : {twin}", color, dashes, number))
    label_ends(axes, ends)
    axes.axhline(1, color=INK, linewidth=1)
    axes.set_ylabel("times")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return figure


@styled
def draw_survival(frame: pd.DataFrame, setting: str, colors: Mapping[str, str]) -> Figure:
    """Draw the range of N that each curve ran at, and why it ended before the sweep did."""
    figure, axes = blank("How far each curve got", setting)
    part = frame[frame["setting"] == setting]
    curves = {str(name): curve.sort_values("slots") for name, curve in part.groupby("curve", sort=False)}
    names = list(curves)
    figure.subplots_adjust(left=0.24, right=0.8)
    set_slots_axis(axes, part["slots"])
    for height, name in enumerate(reversed(names)):
        curve = curves[name]
        color = colors[name]
        ran = curve[curve["status"] == "ok"]
        failed = curve[curve["status"] != "ok"]
        if len(ran):
            axes.plot([ran["slots"].min(), ran["slots"].max()], [height, height], color=color, linewidth=4, solid_capstyle="butt")
            mark_cases(axes, ran["slots"], [height] * len(ran), color, 0, ran["case_id"], ran["warnings"] != "")
        text = f"{failed['status'].iloc[0]} at {format_slots(int(failed['slots'].iloc[0]))}" if len(failed) else ""
        end = float(ran["slots"].max() if len(ran) else failed["slots"].min())
        axes.annotate(text, (end, height), (8, 0), textcoords="offset points", va="center", fontsize=8, annotation_clip=False)
    axes.set_yticks(range(len(names)), [literal(name) for name in reversed(names)], fontsize=8.5)
    axes.set_ylim(-0.7, len(names) - 0.3)
    return figure
