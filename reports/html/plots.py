"""What all plots share: style, colours, markers, labels at the ends of curves, files with the same bytes for the same results."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator

# Dark on white, and at least 20 CIE units apart for normal, red-blind and green-blind eyes alike (seaborn's palette: 13).
COLORS = {"lstm": "#8a8a8a", "ntm": "#d1490c", "dam": "#006b4a", "dnc": "#4a1008", "sam": "#0a6bcc", "sdnc": "#080859"}
OTHER_COLORS = ("#7a1fa2", "#8c8c0e", "#a01a6b", "#333333")  # models of one's own
DASHES = {"plain": "-", "checkpointed": "--", "compiled": ":"}
MARKERS = "os^DvPX*<>"
LABEL_HEIGHT = 0.055  # of the axes
STYLE: Any = {  # matplotlib types its keys one by one
    "svg.hashsalt": "mann-bench",
    "svg.fonttype": "none",  # text stays text: it can be selected, searched and read aloud
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
}


class End(NamedTuple):
    """Where a curve ends and what it is called there."""

    x: float
    y: float
    text: str
    color: str


def blank(title: str, setting: str) -> tuple[Figure, Axes]:
    """An empty plot with room to the right for the curves' names."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 4.0))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.135, right=0.645, bottom=0.125, top=0.87)
        axes.set_title(f"{title}\n", loc="left", fontsize=11, fontweight="bold")
        axes.text(0, 1.03, setting, transform=axes.transAxes, fontsize=8.5, color="#555555")
    return figure, axes


def ticks(axes: Axes, base: float) -> None:
    """Powers of a base on the y axis; on a narrow one, which holds none or one of them, three values evenly apart."""
    low, high = axes.get_ylim()
    if high < low * base**2:
        step = (high / low) ** 0.25
        axes.yaxis.set_major_locator(FixedLocator([low * step**i for i in (1, 2, 3)]))
    else:
        axes.yaxis.set_major_locator(LogLocator(base=base, numticks=9))


def mark(axes: Axes, x: Any, y: Any, color: str, number: int, case_ids: Sequence[str] | pd.Series) -> None:
    """Points that lead to their cases."""
    urls = [f"#case-{case_id}" for case_id in case_ids]
    axes.scatter(x, y, s=24, color=color, marker=MARKERS[number % len(MARKERS)], zorder=3, linewidths=0.6, edgecolors="white", urls=urls)


def svg(figure: Figure) -> str:
    """The figure as an SVG element, without the XML header, so that it can stand inside a page."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    content = text.getvalue()
    return content[content.index("<svg") :]


def save(figure: Figure, stem: Path) -> None:
    """Write `stem.svg` and `stem.png`."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
        figure.savefig(stem.with_suffix(".png"), dpi=180, metadata={"Software": None})


def color_of(model: str, number: int) -> str:
    """A model keeps its colour in every plot."""
    return COLORS.get(model, OTHER_COLORS[number % len(OTHER_COLORS)])


def name_ends(axes: Axes, ends: list[End]) -> None:
    """Name each curve to the right of the plot; names that would overlap are pushed apart."""
    if not ends:
        axes.text(0.5, 0.5, "nothing measured", transform=axes.transAxes, ha="center")
        return
    axes.margins(y=0.12)
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    ends.sort(key=lambda end: end.y)
    heights: list[float] = []
    for end in ends:
        wanted = (float(scale.transform([end.y])[0]) - low) / (high - low)
        heights.append(max(wanted, heights[-1] + LABEL_HEIGHT) if heights else wanted)
    highest = 1.0
    for number in reversed(range(len(heights))):  # those pushed out at the top come down again
        heights[number] = min(heights[number], highest)
        highest = heights[number] - LABEL_HEIGHT
    for end, height in zip(ends, heights, strict=True):
        axes.annotate(
            end.text,
            xy=(end.x, end.y),
            xytext=(1.03, height),
            textcoords="axes fraction",
            color=end.color,
            va="center",
            fontsize=8.5,
            fontweight="bold",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": end.color, "alpha": 0.35, "linewidth": 0.8},
        )
