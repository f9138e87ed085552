"""What all static plots share: style, markers, labels at the ends of curves, and files that are equal for equal results."""

import io
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, LogLocator

from mann_bench.reports.html.colors import FAINT

MARKERS = "os^DvPX*<>"
LABEL_HEIGHT = 0.055  # as a fraction of the height of the axes
LABELS_AT = 1.09  # in widths of the axes, from their left
LABEL_FONT = FontProperties(family="DejaVu Sans", weight="bold", size=8.5)
STYLE = dict(matplotlib.rc_params_from_file(Path(__file__).with_name("plots.mplstyle"), use_default_template=False))
styled = matplotlib.rc_context(STYLE)  # decorates every function that draws or saves


class CurveEnd(NamedTuple):
    """The last point of a curve (data coordinates), the label that is written beside it, and how the curve is drawn."""

    x: float
    y: float
    text: str
    color: str
    dashes: str = "-"
    marker: int | None = None


def blank(title: str, subtitle: str = "", *, size: tuple[float, float] = (6.2, 4.0)) -> tuple[Figure, Axes]:
    """Create an empty plot.

    With a subtitle, the margins are fixed and leave room on the right for the labels of curves. Without one, matplotlib sets them.

    Args:
        size: width and height in inches.
    """
    figure = Figure(figsize=size, layout=None if subtitle else "constrained")
    axes = figure.subplots()
    axes.set_title(literal(f"{title}\n" if subtitle else title), loc="left", fontsize=11, fontweight="bold")
    if subtitle:
        figure.subplots_adjust(left=0.135, right=0.645, bottom=0.125, top=0.87)
        axes.annotate(literal(subtitle), (0, 1), (0, 7), "axes fraction", "offset points", fontsize=8.5, color="#555555")
    return figure, axes


def literal(text: str) -> str:
    """Return a text for matplotlib that holds no formula: it would read what stands between two dollar signs as one."""
    return text.replace("$", r"\$")


def log_y(axes: Axes, values: Sequence[float] | pd.Series) -> None:
    """Make the y axis logarithmic. If a value is 0, zero is a marked line below the smallest value above it."""
    positive = [value for value in values if value > 0]
    if len(positive) == len(values):
        axes.set_yscale("log")
    else:
        axes.set_yscale("symlog", linthresh=min(positive, default=1.0))
        axes.axhline(0, color=FAINT, linewidth=1)


def set_y_ticks(axes: Axes, base: float) -> None:
    """Put the ticks of a logarithmic y axis at powers of `base`; an axis too short to hold two of them gets three even ticks.

    On an axis with a zero (`log_y`), one is at zero.
    """
    low, high = axes.get_ylim()
    scale = axes.yaxis.get_transform()
    if isinstance(scale, SymmetricalLogTransform):
        first, last = (math.log(value, base) for value in (scale.linthresh, max(high, scale.linthresh)))
        powers = [base**exponent for exponent in range(math.ceil(first - 1e-9), math.floor(last) + 1)] if high > scale.linthresh else []
        axes.yaxis.set_major_locator(FixedLocator([0.0, *powers[:: 1 + len(powers) // 9]]))
    elif high < low * base**2:
        step = (high / low) ** 0.25
        axes.yaxis.set_major_locator(FixedLocator([low * step**i for i in (1, 2, 3)]))
    else:
        axes.yaxis.set_major_locator(LogLocator(base=base, numticks=9))


def label_ends(axes: Axes, ends: list[CurveEnd]) -> None:
    """Write each curve's label, with its marker, to the right of the plot; labels that would overlap are pushed apart.

    No line leads from a curve to its label: it would cross values of x at which nothing was measured. The figure grows to hold its labels.
    """
    if not ends:
        show_nothing(axes)
        return
    axes.margins(y=0.12)
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    ends.sort(key=lambda end: end.y)
    label_height = min(LABEL_HEIGHT, 1 / len(ends))
    heights: list[float] = []
    for end in ends:
        wanted = (float(scale.transform([end.y])[0]) - low) / (high - low)
        heights.append(max(wanted, heights[-1] + label_height) if heights else wanted)
    highest = 1.0
    for number in reversed(range(len(heights))):  # push down what stands above the plot
        heights[number] = min(heights[number], highest)
        highest = heights[number] - label_height
    for end, height in zip(ends, heights, strict=True):
        draw = partial(axes.plot, transform=axes.transAxes, clip_on=False, color=end.color)
        draw([1.02, 1.075], [height, height], end.dashes, linewidth=1.6)
        if end.marker is not None:
            shape = MARKERS[end.marker % len(MARKERS)]
            draw([1.0475], [height], marker=shape, markersize=5, markeredgecolor="white", markeredgewidth=0.5)
        axes.text(LABELS_AT, height, literal(end.text), color=end.color, va="center", fontproperties=LABEL_FONT, transform=axes.transAxes)
    _make_room(axes, max(TextPath((0, 0), literal(end.text), prop=LABEL_FONT).get_extents().x1 / 72 for end in ends), len(ends))


def _make_room(axes: Axes, label_inches: float, labels: int) -> None:
    """Widen the figure beside the plot, and make plot and figure higher, where the labels need more than there is."""
    figure = axes.figure.figure
    width, height = figure.get_size_inches()
    box = axes.get_position()
    left, right, bottom, top = box.x0 * width, box.x1 * width, box.y0 * height, box.y1 * height
    width = max(width, left + LABELS_AT * (right - left) + label_inches + 0.1)
    higher = max(0.0, labels * LABEL_HEIGHT - 1) * (top - bottom)
    height += higher
    figure.set_size_inches(width, height)
    figure.subplots_adjust(left=left / width, right=right / width, bottom=bottom / height, top=(top + higher) / height)


def show_nothing(axes: Axes) -> None:
    """Say that there is nothing to draw, without axes that would invent numbers."""
    axes.text(0.5, 0.5, "nothing measured", transform=axes.transAxes, ha="center")
    axes.set_axis_off()


@styled
def to_svg(figure: Figure) -> str:
    """Return the figure as an SVG file."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def svg_element(svg: str) -> str:
    """Return the `<svg>` element of an SVG file, to stand inside a page."""
    return svg[svg.index("<svg") :]
