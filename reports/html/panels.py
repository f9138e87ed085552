"""Static plots as small multiples, drawn by seaborn: a few curves a panel, all panels with the same axes, at the width of one column of a
paper or of two.

The curves of all other panels with the same `group` stand behind a panel's own in grey. Labels stand beside each panel, in the order of the
curves' ends; where they are too long for that, below it. They cannot overlap: each has a line of its own.
"""

import math
import textwrap
from collections.abc import Sequence
from functools import cache, partial

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from mann_bench.reports.html.colors import FAINT, INK
from mann_bench.reports.html.panel_data import Axis, Multiples, Panel
from mann_bench.reports.html.plot_files import WIDTHS
from mann_bench.reports.html.plots import MARKERS, STYLE, literal, log_y, set_y_ticks

SEABORN_DASHES = {"-": "", "--": (4, 2), ":": (1, 1.5), "-.": (5, 1.5, 1, 1.5), "-..": (5, 1.5, 1, 1.5, 1, 1.5)}
FONT = 7.5  # points
NAME_FONT = FontProperties(family="DejaVu Sans", weight="bold", size=FONT - 0.5)
CHARACTER = 0.58 * FONT / 72  # about the width of one, in inches
LINE = 0.135  # height of a line of text, in inches
LEFT, SAMPLE, GAP = 0.76, 0.36, 0.1  # inches: beside the axes for ticks and title; of a label's sample of its curve; between panels
BELOW, ABOVE = 0.42, 0.12  # inches: below the axes for ticks and title, above them
LEAST_WIDTH = 1.3  # of axes, in inches
STYLE_OF_PANELS = {**seaborn.axes_style("ticks"), **seaborn.plotting_context("paper"), **STYLE, "font.size": FONT} | {
    f"{part}.labelsize": FONT for part in ("axes", "xtick", "ytick")
}


@matplotlib.rc_context(STYLE_OF_PANELS)
def draw(multiples: Multiples, columns: int = 2) -> Figure:
    """Draw the panels below each other, or two beside each other.

    Args:
        columns: of a paper that the figure is as wide as, 1 or 2.
    """
    width = WIDTHS[columns]
    across = min(columns, len(multiples.panels))
    cell = (width - GAP * across) / across
    labels = SAMPLE + max(_text_width(text) for panel in multiples.panels for look in panel.looks.values() for text in look[2:])
    beside = cell - LEFT - labels >= LEAST_WIDTH
    panel_width = cell - LEFT - (labels if beside else 0.05)
    most = max(len(panel.looks) for panel in multiples.panels)
    panel_height = max(min(2.6, 0.62 * panel_width), 1.5, most * 2 * LINE if beside else 0)
    titles = [_wrapped(panel.title, cell - LEFT) for panel in multiples.panels]
    over = ABOVE + LINE * max(map(len, titles))
    head = [line for text in (multiples.subtitle, _legend(multiples)) for line in textwrap.wrap(text, int((width - 0.2) / CHARACTER))]
    top = 0.28 + LINE * len(head)
    rows_of_panels = [multiples.panels[start : start + across] for start in range(0, len(multiples.panels), across)]
    under = [BELOW + (0 if beside else LINE * (0.6 + max(map(_lines_below, panels)))) for panels in rows_of_panels]
    height = top + sum(under) + len(under) * (over + panel_height) + 0.05
    figure = Figure(figsize=(width, height))
    figure.text(0.1 / width, 1 - 0.06 / height, literal(multiples.title), va="top", fontsize=FONT + 2, fontweight="bold")
    for number, line in enumerate(head):
        figure.text(0.1 / width, 1 - (0.27 + LINE * number) / height, literal(line), va="top", color=FAINT)
    rows = pd.concat([panel.rows for panel in multiples.panels])
    for number, (panel, title) in enumerate(zip(multiples.panels, titles, strict=True)):
        row, column = divmod(number, across)
        left = column * (cell + GAP) + LEFT
        bottom = height - top - (row + 1) * (over + panel_height) - sum(under[:row])
        axes = figure.add_axes((left / width, bottom / height, panel_width / width, panel_height / height))
        axes.set_title(literal("\n".join(title)), loc="left", fontsize=FONT, fontweight="bold", pad=3)
        axes.set(xlabel=multiples.x.title, ylabel=multiples.y.title)  # before seaborn draws, which makes all ticks to find titles
        _set_scales(axes, multiples, rows)
        _draw_panel(
            axes, panel, [other for other in multiples.panels if other is not panel and other.group == panel.group], multiples.joined
        )
        if multiples.one:
            axes.axhline(1, color=INK, linewidth=0.8)
        _set_ticks(axes, multiples, panel_width)
        if column:
            axes.set_ylabel("")
        axes.yaxis.set_label_coords((0.13 - LEFT) / panel_width, 0.5)
        _label(axes, panel, (panel_width, panel_height), beside, multiples.joined)
    return figure


def _legend(multiples: Multiples) -> str:
    """What a reader cannot know of a figure: what is left out, what is grey, what a ring is."""
    groups = [panel.group for panel in multiples.panels]
    grey = "Grey: the curves of the other panels." if any(groups.count(group) > 1 for group in groups) else ""
    ring = "Ring: the case has a warning." if any(panel.rows["warned"].any() for panel in multiples.panels) else ""
    return " ".join(part for part in (multiples.note, grey, ring) if part)


def _wrapped(text: str, width: float) -> list[str]:
    """Break a title into lines that are at most so many inches wide."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _text_width(longer) * FONT / NAME_FONT.get_size_in_points() <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@cache
def _text_width(text: str) -> float:
    """Width in inches: where the outlines of its letters end, whose outermost points are points of the path."""
    return float(TextPath((0, 0), literal(text), prop=NAME_FONT).vertices[:, 0].max()) / 72 if text.strip() else 0.0


def _fitted(text: str, width: float) -> str:
    """The text, without a part in its middle if it would be wider than so many inches."""
    kept = len(text)
    shown = text
    while _text_width(shown) > width and kept > 2:
        kept -= 2
        shown = f"{text[: kept // 2]}…{text[-(kept // 2) :]}"
    return shown


def _lines_below(panel: Panel) -> int:
    return sum(2 if look.remark else 1 for look in panel.looks.values())


def _set_scales(axes: Axes, multiples: Multiples, rows: pd.DataFrame) -> None:
    """Give the axes the scales and the limits that all panels share."""
    for name, axis, columns in (("x", multiples.x, ["x"]), ("y", multiples.y, ["y", "low", "high"])):
        values = rows[columns].to_numpy(float).ravel()
        values = np.append(values[np.isfinite(values)], [1.0] if name == "y" and multiples.one else [])
        if axis.base and name == "x":
            axes.set_xscale("log", base=axis.base)
        elif axis.base:
            log_y(axes, values.tolist())
        _set_limits(axes, name, values)
    if not multiples.y.base:
        axes.set_ylim(0, None)


def _set_limits(axes: Axes, name: str, values: NDArray[np.float64]) -> None:
    """Set the limits of one axis to its values and a margin, as it looks on the axis."""
    scale = getattr(axes, f"{name}axis").get_transform()
    low, high = scale.transform(np.array([values.min(), values.max()]))
    margin = 0.07 * (high - low) or 0.5
    getattr(axes, f"set_{name}lim")(*scale.inverted().transform(np.array([low - margin, high + margin])))


def _draw_panel(axes: Axes, panel: Panel, others: Sequence[Panel], joined: bool) -> None:
    for other in others:
        for _, curve in other.rows.groupby("curve", sort=False):
            axes.plot(curve["x"], curve["y"], "-" if joined else ".", color="#d0d0d0", linewidth=0.8, markersize=4, zorder=1)
    names = list(panel.looks)
    palette = {name: panel.looks[name].color for name in names}
    common: dict[str, object] = {"x": "x", "hue": "curve", "hue_order": names, "palette": palette, "style": "curve", "style_order": names}
    common |= {"ax": axes, "legend": False}
    if joined:
        ends = panel.rows.melt(["curve", "x"], ["low", "y", "high"], value_name="value")
        dashes = {name: SEABORN_DASHES[panel.looks[name].dashes] for name in names}
        band = {"errorbar": lambda values: (values.min(), values.max()), "err_kws": {"alpha": 0.2, "linewidth": 0}}
        seaborn.lineplot(ends, y="value", estimator="median", dashes=dashes, linewidth=1.3, **band, **common)
    markers = dict(zip(names, MARKERS, strict=False))
    warned = panel.rows[panel.rows["warned"]]
    axes.scatter(warned["x"], warned["y"], s=34, facecolors="none", edgecolors=FAINT, linewidths=0.6, zorder=2.9)
    seaborn.scatterplot(panel.rows, y="y", markers=markers, s=17, linewidth=0.4, edgecolor="white", zorder=3, **common)
    axes.collections[-1].set_urls([f"#case-{case_id}" for case_id in panel.rows["case_id"]])
    if panel.steps:
        axes.plot(*zip(*panel.steps, strict=True), color=INK, linewidth=0.8, drawstyle="steps-post", zorder=2)


def _set_ticks(axes: Axes, multiples: Multiples, width: float) -> None:
    x, y = multiples.x, multiples.y
    if x.base:
        axes.xaxis.set_major_locator(FixedLocator(_apart(axes, x, x.ticks, width) if x.ticks else _powers(axes, x, width)))
    low, high = axes.get_ylim()
    if y.base and axes.get_yscale() == "log" and high < low * y.base**2:
        axes.yaxis.set_major_locator(FixedLocator(_round_values(low, high, y.base)))
    elif y.base:
        set_y_ticks(axes, y.base)
    for axis, written in ((axes.xaxis, x), (axes.yaxis, y)):
        axis.set_major_formatter(FuncFormatter(lambda value, _, text=written.text: text(value)))
        axis.set_minor_locator(NullLocator())


def _powers(axes: Axes, x: Axis, width: float) -> list[float]:
    """Every power of the base, or every second, third and so on, so that their labels do not touch."""
    first, last = (math.log(limit, x.base) for limit in axes.get_xlim())
    powers = [float(x.base) ** power for power in range(math.ceil(first), math.floor(last) + 1)]
    if len(powers) < 2:
        powers = _round_values(*axes.get_xlim(), x.base)
    return next(
        (powers[::step] for step in range(1, len(powers)) if len(_apart(axes, x, powers[::step], width)) == len(powers[::step])), powers[:1]
    )


def _round_values(low: float, high: float, base: int) -> list[float]:
    """Ticks of a short logarithmic axis: 1, 2 and 5 times powers of ten, or powers of two; of a shorter one, even steps of round values."""
    exponents = range(math.floor(math.log(low, base)), math.ceil(math.log(high, base)) + 1)
    values = [factor * float(base) ** exponent for exponent in exponents for factor in ((1, 2, 5) if base == 10 else (1, 2))]
    inside = sorted({value for value in values if low <= value <= high})
    if len(inside) > 1:
        return inside
    unit = 1024.0 ** max(0, math.floor(math.log(high, 1024))) if base == 4 else 1.0
    return [
        unit * value for value in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low / unit, high / unit) if low <= unit * value <= high
    ]


def _apart(axes: Axes, x: Axis, ticks: Sequence[float], width: float) -> list[float]:
    """Those of the ticks whose labels do not touch, from the largest down."""
    scale = axes.xaxis.get_transform()
    low, high = scale.transform(np.array(axes.get_xlim()))
    chosen: list[float] = []
    end = float("inf")
    for value in sorted(ticks, reverse=True):
        middle = float(scale.transform(np.array([value]))[0] - low) / (high - low) * width
        half = _text_width(x.text(value)) / 2 + 0.05
        if middle + half <= end:
            chosen.append(value)
            end = middle - half
    return chosen


def _label(axes: Axes, panel: Panel, size: tuple[float, float], beside: bool, joined: bool) -> None:
    """Write a label for each curve, with a sample of it: beside the axes at the height of its last point, or below them.

    Args:
        size: of the axes: width and height in inches.
    """
    width, height = size
    last = {str(name): float(curve["y"].iloc[-1]) for name, curve in panel.rows.groupby("curve", sort=False)}
    order = sorted(panel.looks, key=lambda name: -last[name])
    markers = dict(zip(panel.looks, MARKERS, strict=False))
    if beside:
        left = width + 0.06
        wanted = [height * axes.transAxes.inverted().transform(axes.transData.transform((1, last[name])))[1] for name in order]
        tops = _pushed_apart(wanted, height)
    else:
        left = 0.0
        lines = np.cumsum([0, *(2 if panel.looks[name].remark else 1 for name in order)])[:-1]
        tops = [-BELOW - LINE * (0.6 + float(line)) for line in lines]
    for name, top in zip(order, tops, strict=True):
        look = panel.looks[name]
        height_of = top / height
        plot = partial(axes.plot, transform=axes.transAxes, clip_on=False, color=look.color)
        if joined:
            plot([left / width, (left + 0.24) / width], [height_of] * 2, look.dashes, linewidth=1.3)
        plot([(left + 0.12) / width], [height_of], marker=markers[name], markersize=4, markeredgecolor="white", markeredgewidth=0.4)
        write = partial(axes.text, va="center", transform=axes.transAxes, color=look.color)
        name_shown, remark = look[2:] if beside else (_fitted(part, width - 0.29) for part in look[2:])
        write((left + 0.29) / width, height_of, literal(name_shown), fontproperties=NAME_FONT)
        if look.remark:
            write((left + 0.29) / width, (top - LINE * 0.85) / height, literal(remark), fontsize=FONT - 0.8)


def _pushed_apart(wanted: Sequence[float], height: float) -> list[float]:
    """Heights of labels of two lines, as near to those wanted (from the highest down) as they can be inside the axes without touching."""
    pitch = 2 * LINE
    tops: list[float] = []
    for number, value in enumerate(wanted):
        highest = height - 0.4 * LINE if not tops else tops[-1] - pitch
        lowest = LINE + pitch * (len(wanted) - 1 - number)
        tops.append(min(highest, max(value, lowest)))
    return tops
