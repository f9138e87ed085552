"""Plots of trade-offs: recall against time, and time against peak memory at one N."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mann_bench.data.units import format_bytes, format_slots
from mann_bench.reports.analysis.pareto import ParetoFront
from mann_bench.reports.html.plots import INK, blank, literal, mark_cases, set_y_ticks, styled


@styled
def draw_recall(frame: pd.DataFrame, setting: str, colors: Mapping[str, str]) -> Figure | None:
    """Draw the share of the true nearest rows that are found, against time; None if no case of the setting has a recall."""
    part = frame[(frame["setting"] == setting) & (frame["status"] == "ok") & frame["recall"].notna()]
    if part.empty:
        return None
    figure, axes = blank("Recall against time", setting)
    axes.set_xscale("log")
    for number, (name, curve) in enumerate(part.groupby("curve", sort=False)):
        curve = curve.sort_values("slots")
        color = colors[str(name)]
        axes.plot(curve["step_ms_median"], curve["recall"], color=color, linewidth=1, alpha=0.5)
        mark_cases(axes, curve["step_ms_median"], curve["recall"], color, number, curve["case_id"], curve["warnings"] != "")
        for _, row in curve.iterrows():
            text = f"{name} {format_slots(int(row['slots']))}"
            point = (row["step_ms_median"], row["recall"])
            axes.annotate(literal(text), point, (5, 4), textcoords="offset points", fontsize=7.5, color=color, annotation_clip=False)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("milliseconds a step")
    axes.set_ylabel("recall@K: share of the K best rows found")
    return figure


@styled
def draw_front(front: ParetoFront, frame: pd.DataFrame, colors: Mapping[str, str]) -> Figure:
    """Draw time against peak memory at one N; the curves on the front are joined and have bold labels."""
    figure, axes = blank(f"Time against memory at N = {format_slots(front.slots)}", front.setting)
    figure.subplots_adjust(right=0.84)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.plot(front.rows["step_ms_median"], front.rows["peak_bytes"], color=INK, linewidth=1, drawstyle="steps-post")
    here = frame[(frame["setting"] == front.setting) & (frame["slots"] == front.slots) & (frame["status"] == "ok")]
    for number, (_, row) in enumerate(here.drop_duplicates("curve").iterrows()):
        best = row["curve"] in set(front.rows["curve"])
        if not best and row["curve"] not in front.beaten:
            continue  # a model without N slots
        color = colors[str(row["curve"])]
        mark_cases(axes, [row["step_ms_median"]], [row["peak_bytes"]], color, number, [row["case_id"]], [row["warnings"] != ""])
        axes.annotate(
            literal(row["curve"]),
            (row["step_ms_median"], row["peak_bytes"]),
            (6, 4),
            textcoords="offset points",
            fontsize=8.5,
            color=color,
            fontweight="bold" if best else "normal",
            annotation_clip=False,
        )
    axes.margins(0.15)
    axes.set_xlabel("milliseconds a step")
    axes.set_ylabel("peak memory in all")
    set_y_ticks(axes, 2)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value)))
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    return figure
