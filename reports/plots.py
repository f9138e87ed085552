"""Plots: log-log curves against N that read alone, in print and for the colour-blind; SVG with the same bytes for the same results."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from mann_bench.reports.scaling import Exponent
from mann_bench.sizes import format_bytes, format_slots

MARKERS = "os^DvPX*<>"
LABEL_HEIGHT = 0.06  # of the axes
ORDER = ("lstm", "ntm", "dam", "dnc", "sam", "sdnc")  # a model keeps its colour in every plot
_STYLE: Any = {  # matplotlib types its keys one by one
    "svg.hashsalt": "mann-bench",
    "svg.fonttype": "none",  # text stays text: it can be selected, searched and read aloud
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
}


@dataclass(frozen=True)
class Quantity:
    """What a plot shows: a column of the table, its interval's columns if it has any, and how to label it."""

    key: str
    title: str
    axis: str
    column: str
    low: str | None = None
    high: str | None = None
    is_bytes: bool = False


TIME = Quantity("time", "Time per step", "milliseconds a step", "step_ms_median", "step_ms_ci_low", "step_ms_ci_high")
TAPE = Quantity("memory_per_step", "Memory each further step takes", "bytes a step kept for backward", "bytes_per_step", is_bytes=True)
PASS = Quantity("pass_memory", "Memory of a pass", "peak above what is held before", "pass_bytes", is_bytes=True)
PEAK = Quantity("peak_memory", "Peak memory in all", "model, memory and pass", "peak_bytes", is_bytes=True)
QUANTITIES = (TIME, TAPE, PASS, PEAK)


def draw(frame: pd.DataFrame, quantity: Quantity, fits: dict[tuple[str, str], Exponent], setting: str) -> Figure:
    """One plot of one setting: curves with their interval, each named at its end with its exponent."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.0, 4.2))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.13, right=0.70, bottom=0.13, top=0.88)  # room to the right for the curves' names
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        part = frame[(frame["setting"] == setting) & (frame["status"] == "ok") & (frame[quantity.column] > 0)]
        ends: list[tuple[float, float, str, tuple[float, float, float]]] = []
        for number, (name, curve) in enumerate(part.groupby("curve", sort=False)):
            curve = curve.sort_values("slots")
            color = _color(str(curve["model"].iloc[0]), number)
            dashes = {"plain": "-", "checkpointed": "--", "compiled": ":"}.get(str(curve["variant"].iloc[0]), "-.")
            axes.plot(
                curve["slots"],
                curve[quantity.column],
                dashes,
                marker=MARKERS[number % len(MARKERS)],
                color=color,
                markersize=5,
                linewidth=1.6,
            )
            if quantity.low and quantity.high:
                axes.fill_between(curve["slots"], curve[quantity.low], curve[quantity.high], color=color, alpha=0.25, linewidth=0)
            fit = fits.get((setting, str(name)))
            text = f"{name}  N^{fit.value:.2f}" if fit else str(name)
            ends.append((float(curve["slots"].iloc[-1]), float(curve[quantity.column].iloc[-1]), text, color))
        _label_ends(axes, ends)
        axes.set_xlabel("memory slots N")
        axes.set_ylabel(quantity.axis)
        axes.set_title(f"{quantity.title}\n", loc="left", fontsize=11, fontweight="bold")
        axes.text(0, 1.03, setting, transform=axes.transAxes, fontsize=9, color="#555555")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_slots(int(value)) if value >= 1 else ""))
        form = format_bytes if quantity.is_bytes else _plain
        if quantity.is_bytes:
            axes.yaxis.set_major_locator(LogLocator(base=4, numticks=9))  # 64 KiB, 256 KiB, 1 MiB: no 977 KiB
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    return figure


def svg(figure: Figure) -> str:
    """The figure as an SVG element, without the XML header, so that it can stand inside a page."""
    text = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    content = text.getvalue()
    return content[content.index("<svg") :]


def save(figure: Figure, stem: Path) -> None:
    """Write `stem.svg` and `stem.png`."""
    with matplotlib.rc_context(_STYLE):
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
        figure.savefig(stem.with_suffix(".png"), dpi=160, metadata={"Software": None})


def _color(model: str, number: int) -> tuple[float, float, float]:
    palette = sns.color_palette("colorblind", 10)
    return palette[ORDER.index(model) if model in ORDER else len(ORDER) + number % 4]


def _label_ends(axes: matplotlib.axes.Axes, ends: list[tuple[float, float, str, tuple[float, float, float]]]) -> None:
    """Name each curve to the right of the plot; names that would overlap are pushed apart."""
    if not ends:
        axes.text(0.5, 0.5, "nothing measured", transform=axes.transAxes, ha="center")
        return
    axes.margins(y=0.12)
    low, high = (math.log(limit) for limit in axes.get_ylim())
    ends.sort(key=lambda end: end[1])
    heights: list[float] = []
    for _, value, _, _ in ends:
        wanted = (math.log(value) - low) / (high - low)
        heights.append(max(wanted, heights[-1] + LABEL_HEIGHT) if heights else wanted)
    highest = 1.0
    for number in reversed(range(len(heights))):  # those pushed out at the top come down again
        heights[number] = min(heights[number], highest)
        highest = heights[number] - LABEL_HEIGHT
    for (slots, value, text, color), height in zip(ends, heights, strict=True):
        axes.annotate(
            text,
            xy=(slots, value),
            xytext=(1.02, height),
            textcoords="axes fraction",
            color=color,
            va="center",
            fontsize=9,
            fontweight="bold",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "alpha": 0.35, "linewidth": 0.8},
        )


def _plain(value: float) -> str:
    return f"{value:g}"
