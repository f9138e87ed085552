"""Plots of what is concluded: against the twin, how far each curve got and why it stopped, recall against time, time against memory."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mann_bench.data.units import format_bytes, format_slots
from mann_bench.reports.analysis.limits import Front
from mann_bench.reports.analysis.ratios import Ratio
from mann_bench.reports.html.plots import STYLE, End, blank, color_of, mark, name_ends, ticks
from mann_bench.reports.scaling.plots import against_slots


def draw_ratios(ratios: Sequence[Ratio], setting: str, kind: str) -> Figure:
    """How many times faster (`kind="time"`), or how many times less memory a step (`"memory"`), against N; 1 is no difference."""
    title = "Times faster than the twin" if kind == "time" else "Times less memory a step than the twin"
    figure, axes = blank(title, setting)
    with matplotlib.rc_context(STYLE):
        against_slots(axes)
        ends = []
        rows = pd.DataFrame([vars(ratio) for ratio in ratios if ratio.setting == setting])
        for number, (subject, twin) in enumerate(dict.fromkeys((r.subject, r.twin) for r in ratios if r.setting == setting)):
            pair = rows[(rows["subject"] == subject) & (rows["twin"] == twin)]
            pair = pair[pair["tape_ratio"] > 0] if kind == "memory" else pair
            column = "tape_ratio" if kind == "memory" else "speedup"
            if pair.empty:
                continue
            color = color_of(str(pair["twin_model"].iloc[0]), number)
            dashes = "-" if twin == pair["twin_model"].iloc[0] else "--"
            axes.plot(pair["slots"], pair[column], dashes, color=color, linewidth=1.6)
            mark(axes, pair["slots"], pair[column], color, number, pair["subject_case"])
            if kind == "time":
                axes.fill_between(pair["slots"], pair["speedup_low"], pair["speedup_high"], color=color, alpha=0.2, linewidth=0)
            ends.append(End(float(pair["slots"].iloc[-1]), float(pair[column].iloc[-1]), f"{subject} : {twin}", color))
        name_ends(axes, ends)
        axes.axhline(1, color="#1c1c1c", linewidth=1)
        axes.set_ylabel("times")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    return figure


def draw_survival(frame: pd.DataFrame, setting: str) -> Figure:
    """The largest N each curve ran at, and what stopped it there."""
    figure, axes = blank("How far each curve got", setting)
    with matplotlib.rc_context(STYLE):
        part = frame[frame["setting"] == setting]
        names = list(dict.fromkeys(part["curve"]))
        figure.subplots_adjust(left=0.24, right=0.8)
        axes.set_xscale("log", base=2)
        for height, name in enumerate(reversed(names)):
            curve = part[part["curve"] == name].sort_values("slots")
            color = color_of(str(curve["model"].iloc[0]), height)
            ran = curve[curve["status"] == "ok"]
            failed = curve[curve["status"] != "ok"]
            if len(ran):
                axes.plot([ran["slots"].min(), ran["slots"].max()], [height, height], color=color, linewidth=4, solid_capstyle="butt")
                mark(axes, ran["slots"], [height] * len(ran), color, 0, ran["case_id"])
            text = f"{failed['status'].iloc[0]} at {format_slots(int(failed['slots'].iloc[0]))}" if len(failed) else "end of sweep"
            at = float(ran["slots"].max() if len(ran) else failed["slots"].min())
            axes.annotate(text, (at, height), (8, 0), textcoords="offset points", va="center", fontsize=8, annotation_clip=False)
        axes.set_yticks(range(len(names)), list(reversed(names)), fontsize=8.5)
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.set_xlabel("memory slots N")
        axes.xaxis.set_major_locator(LogLocator(base=4, numticks=10))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_slots(int(value)) if value >= 1 else ""))
    return figure


def draw_recall(frame: pd.DataFrame, setting: str) -> Figure | None:
    """Share of the true nearest rows found, against time; None where no case of the setting has a recall."""
    part = frame[(frame["setting"] == setting) & (frame["status"] == "ok") & frame["recall"].notna()]
    if part.empty:
        return None
    figure, axes = blank("Recall against time", setting)
    with matplotlib.rc_context(STYLE):
        axes.set_xscale("log")
        for number, (name, curve) in enumerate(part.groupby("curve", sort=False)):
            curve = curve.sort_values("slots")
            color = color_of(str(curve["index"].iloc[0]), number)
            axes.plot(curve["step_ms_median"], curve["recall"], color=color, linewidth=1, alpha=0.5)
            mark(axes, curve["step_ms_median"], curve["recall"], color, number, curve["case_id"])
            for _, row in curve.iterrows():
                text = f"{name} {format_slots(int(row['slots']))}"
                at = (row["step_ms_median"], row["recall"])
                axes.annotate(text, at, (5, 4), textcoords="offset points", fontsize=7.5, color=color, annotation_clip=False)
        axes.set_ylim(0, 1.05)
        axes.set_xlabel("milliseconds a step")
        axes.set_ylabel("recall@K: share of the K best rows found")
    return figure


def draw_front(front: Front, frame: pd.DataFrame) -> Figure:
    """Time against peak memory at one N; the curves that nobody beats are joined and dark, the rest faint."""
    figure, axes = blank(f"Time against memory at N = {format_slots(front.slots)}", front.setting)
    with matplotlib.rc_context(STYLE):
        figure.subplots_adjust(right=0.84)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.plot(front.rows["step_ms_median"], front.rows["peak_bytes"], color="#1c1c1c", linewidth=1, drawstyle="steps-post")
        here = frame[(frame["setting"] == front.setting) & (frame["slots"] == front.slots) & (frame["status"] == "ok")]
        for number, (_, row) in enumerate(here.drop_duplicates("curve").iterrows()):
            best = row["curve"] in set(front.rows["curve"])
            if not best and row["curve"] not in front.beaten:
                continue  # has no memory of N slots
            color = color_of(str(row["model"]), number)
            mark(axes, [row["step_ms_median"]], [row["peak_bytes"]], color, number, [row["case_id"]])
            style: Any = {"fontsize": 8.5, "color": color, "fontweight": "bold" if best else "normal", "annotation_clip": False}
            axes.annotate(row["curve"], (row["step_ms_median"], row["peak_bytes"]), (6, 4), textcoords="offset points", **style)
        axes.margins(0.15)
        axes.set_xlabel("milliseconds a step")
        axes.set_ylabel("peak memory in all")
        ticks(axes, 2)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value)))
        axes.xaxis.set_major_locator(LogLocator(base=2, numticks=9))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
    return figure
