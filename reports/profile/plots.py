"""Plots of a profile: memory by step as stacked areas, time by step, time by phase."""

import math

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from mann_bench.data.units import format_bytes
from mann_bench.measure.ledger import CAUSES
from mann_bench.measure.profile import Profile, StepPoint
from mann_bench.models.phases import PHASES
from mann_bench.reports.html.plots import STYLE, blank
from mann_bench.reports.profile.series import COLORS, in_order, points_of, whole_passes

DIRECTIONS = {"forward": "#0a6bcc", "backward": "#d1490c"}  # and their colours


def draw_memory(profile: Profile) -> Figure:
    """Draw what each cause holds after each step, forward then backward, as stacked areas; the line is the peak within the step."""
    ordered = in_order(profile)
    figure, axes = _blank("Memory held, by cause")
    shown = [cause for cause in COLORS if any(point.held[cause] for point in ordered)]
    assert set(COLORS) == set(CAUSES)
    positions = range(len(ordered))
    axes.stackplot(
        positions,
        [[point.held[cause] for point in ordered] for cause in shown],
        colors=[COLORS[cause] for cause in shown],
        labels=[cause.replace("_", " ") for cause in shown],
        step="mid" if len(ordered) < 3 else None,
    )
    axes.plot(positions, [point.peak_bytes for point in ordered], color="black", linewidth=1, label="most held within")
    _label_bytes(axes)
    _label_steps(axes, profile, ordered)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    return figure


def draw_tape(profile: Profile) -> Figure:
    """Draw the bytes kept for backward against the step; the slope is bytes per step."""
    figure, axes = _blank("Kept for backward")
    for direction, color in DIRECTIONS.items():
        points = points_of(profile, direction)
        if points and not (direction == "backward" and whole_passes(profile)):
            axes.plot([p.step for p in points], [p.held["tape"] for p in points], color=color, label=f"after the {direction} of a step")
    _label_bytes(axes)
    axes.set_xlabel("steps of the pass" if whole_passes(profile) else "step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=9)
    return figure


def draw_time(profile: Profile) -> Figure:
    """Draw the time of each step, forward and backward."""
    figure, axes = _blank("Time of a step")
    for direction, color in DIRECTIONS.items():
        points = points_of(profile, direction)
        if points:
            axes.plot(
                [p.step for p in points], [p.ms for p in points], color=color, label=direction, marker="o" if len(points) < 20 else ""
            )
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ms a step" if whole_passes(profile) else "ms in the recorded pass")
    axes.set_xlabel("steps of the pass" if whole_passes(profile) else "step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=9)
    return figure


def draw_phases(profile: Profile) -> Figure:
    """Draw the share of each phase in the time of the pass, forward and backward side by side."""
    names = [name for name in (*PHASES, "rest") if any(row.phase == name for row in profile.phases)]
    figure, axes = _blank("Where the time goes", height=0.9 + 0.42 * len(names))
    for offset, (direction, color) in enumerate(DIRECTIONS.items()):
        share = {row.phase: row.share for row in profile.phases if row.direction == direction}
        positions = [number + 0.36 * offset for number in range(len(names))]
        axes.barh(positions, [100 * share.get(name, 0) for name in names], height=0.34, color=color, label=direction)
    axes.set_yticks([number + 0.18 for number in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_xlabel("% of the pass")
    axes.legend(frameon=False, fontsize=9)
    return figure


def _label_steps(axes: Axes, profile: Profile, ordered: list[StepPoint]) -> None:
    """Write the steps below the x axis and mark where backward begins."""
    axes.set_xlim(0, max(1, len(ordered) - 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: str(ordered[int(value)].step) if 0 <= value < len(ordered) and value == int(value) else "")
    )
    if whole_passes(profile):
        axes.set_xlabel("steps of the pass, at the end of its forward")
        return
    first_backward = sum(point.direction == "forward" for point in ordered)
    if first_backward < len(ordered):
        axes.axvline(first_backward - 0.5, color="black", linewidth=0.8, linestyle=":")
        axes.set_xlabel("step: forward, then (right of the line) backward")
    else:
        axes.set_xlabel("step")


def _label_bytes(axes: Axes) -> None:
    """Start the y axis at 0, with about six ticks at multiples of a power of two."""
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MultipleLocator(2 ** math.ceil(math.log2(max(8, axes.get_ylim()[1]) / 7))))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value)))


@matplotlib.rc_context({**STYLE, "font.size": 10})
def _blank(title: str, height: float = 3.4) -> tuple[Figure, Axes]:
    """Create an empty plot of this page, which has larger figures than the others; `height` in inches."""
    return blank(title, size=(7.0, height))
