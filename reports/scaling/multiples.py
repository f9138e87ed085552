"""What the static plots of the scaling report show: quantities and ratios against N or another field, and trade-offs at one N.

A setting is a panel, or several where it has more curves than a panel holds. The setting with the most cases comes first; others follow
while there is room.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from mann_bench.data.units import format_bytes, format_number, format_slots
from mann_bench.reports.analysis.pareto import ParetoFront
from mann_bench.reports.analysis.ratios import Ratio
from mann_bench.reports.data.axes import AXES
from mann_bench.reports.data.frame import setting_texts
from mann_bench.reports.data.quantity import PASS, PEAK, RECALL, TAPE, TIME, Quantity
from mann_bench.reports.html.colors import DASHES
from mann_bench.reports.html.panel_data import MOST_CURVES, Axis, Look, Multiples, Panel
from mann_bench.reports.scaling.analysis import Analysis

MOST_PANELS = 6  # of a figure
Looks = Callable[[str, pd.DataFrame], Look]


def all_multiples(analysis: Analysis, axis: str, colors: Mapping[str, str]) -> Iterator[Multiples]:
    """The static plots that have something to show, the most telling first.

    Args:
        axis: the field on the x axis of those that are no trade-offs.
        colors: by curve.
    """
    frame = analysis.frame.assign(view=analysis.frame["setting"] if axis == "slots" else setting_texts(analysis.frame, without=axis))
    frame["x"] = frame[axis].astype(float)
    measured = frame[(frame["status"] == "ok") & frame["step_ms_median"].notna()]
    if measured.empty:
        return
    for quantity in (TAPE, TIME):
        yield from _quantity(analysis, frame, measured, quantity, axis, colors)
    for kind in ("time", "memory"):
        yield from _ratios(analysis, measured, kind, axis, colors)
    if axis == "slots":
        yield from _recall(measured, colors)
        yield from _front(analysis, measured, colors)
    for quantity in (PEAK, PASS):
        yield from _quantity(analysis, frame, measured, quantity, axis, colors)


def _quantity(
    analysis: Analysis, frame: pd.DataFrame, measured: pd.DataFrame, quantity: Quantity, axis: str, colors: Mapping[str, str]
) -> Iterator[Multiples]:
    """One quantity against the axis, with 95% intervals where it has them."""
    rows = _rows(measured, measured[quantity.column], *(measured[end] if end else None for end in (quantity.low, quantity.high)))

    def look(name: str, curve: pd.DataFrame) -> Look:
        view = str(curve["view"].iloc[0])
        fit = analysis.fits[quantity.key].get((view, name)) if axis == "slots" else None
        growth = "" if fit is None else "0" if fit.is_zero else fit.order
        tried = frame[(frame["view"] == view) & (frame["curve"] == name)]
        largest = rows.loc[rows["view"] == view, "x"].max()
        remark = ", ".join(part for part in (growth, _end(tried, curve["x"], largest)) if part)
        return Look(colors[name], _dashes(curve), name, remark)

    y = Axis(quantity.axis, format_bytes, 4) if quantity.is_bytes else Axis(quantity.axis, format_number)
    figure = _by_setting(rows, look, quantity.key, quantity.title, _field_axis(rows, axis), y)
    return iter([figure] if figure else [])


def _end(tried: pd.DataFrame, measured: pd.Series, largest: float) -> str:
    """How a curve ended before the sweep did: `oom at 64k`, or `to 16k` where nothing failed."""
    last = float(measured.max())
    failed = tried[(tried["status"] != "ok") & (tried["x"] > last)].sort_values("x")
    if len(failed):
        return f"{failed['status'].iloc[0]} at {format_slots(int(failed['x'].iloc[0]))}"
    if last == largest:
        return ""
    return f"{'to' if measured.nunique() > 1 else 'at'} {format_slots(int(last))}"


def _ratios(analysis: Analysis, measured: pd.DataFrame, kind: str, axis: str, colors: Mapping[str, str]) -> Iterator[Multiples]:
    """How many times faster a curve is than its twin, or how many times less memory a step it takes."""
    cases = measured.drop_duplicates("case_id").set_index("case_id")
    twins: dict[str, Ratio] = {}
    records = []
    for ratio in analysis.ratios:
        if ratio.subject_case not in cases.index or (kind == "memory" and ratio.tape_ratio is None):
            continue
        value = ratio.speedup if kind == "time" else ratio.tape_ratio
        ends = (ratio.speedup_low, ratio.speedup_high) if kind == "time" else (value, value)
        name = f"{ratio.subject} : {ratio.twin}"
        twins[name] = ratio
        case = cases.loc[ratio.subject_case]
        records.append((name, ratio.subject, case["view"], case["x"], value, *ends, ratio.subject_case, ratio.warned))
    rows = pd.DataFrame(records, columns=["curve", "model", "view", "x", "y", "low", "high", "case_id", "warned"])

    def look(name: str, curve: pd.DataFrame) -> Look:
        ratio = twins[name]
        return Look(colors[ratio.twin], "-" if ratio.twin == ratio.twin_model else "--", ratio.subject, f"against {ratio.twin}")

    other = analysis.baseline or "the twin"
    key, title = (
        ("times_faster", f"Times faster than {other}") if kind == "time" else ("times_smaller", f"Times less memory a step than {other}")
    )
    figure = _by_setting(rows, look, key, title, _field_axis(rows, axis), Axis("times", format_number))
    return iter([replace(figure, one=True)] if figure else [])


def _recall(measured: pd.DataFrame, colors: Mapping[str, str]) -> Iterator[Multiples]:
    """The share of the true nearest rows that are found, against the time of a step."""
    found = measured[measured["recall"].notna()]
    rows = _rows(found.assign(x=found["step_ms_median"]), found["recall"], None, None).assign(slots=found["slots"])

    def look(name: str, curve: pd.DataFrame) -> Look:
        first, last = format_slots(int(curve["slots"].min())), format_slots(int(curve["slots"].max()))
        return Look(colors[name], _dashes(curve), name, f"N = {first}" if first == last else f"N = {first} to {last}")

    x, y = Axis("milliseconds a step", format_number, 2), Axis(RECALL.axis, lambda value: f"{value:.2g}", 0)
    figure = _by_setting(rows, look, "recall", "Recall against time", x, y)
    return iter([replace(figure, joined=False)] if figure else [])


def _front(analysis: Analysis, measured: pd.DataFrame, colors: Mapping[str, str]) -> Iterator[Multiples]:
    """Time against peak memory at the largest N of the main setting at which at least half of its curves ran."""
    fronts = [(len(front.rows) + len(front.beaten), front) for front in analysis.fronts if front.setting == analysis.main_setting]
    if not fronts:
        return
    most = max(curves for curves, _ in fronts)
    front = max((front for curves, front in fronts if 2 * curves >= most), key=lambda front: front.slots)
    best = set(front.rows["curve"])
    here = measured[(measured["view"] == front.setting) & (measured["slots"] == front.slots)]
    here = here[here["curve"].isin([*best, *front.beaten])].drop_duplicates("curve")
    rows = _rows(here.assign(x=here["step_ms_median"]), here["peak_bytes"], None, None)

    def look(name: str, curve: pd.DataFrame) -> Look:
        return Look(colors[name], _dashes(curve), name, "nobody beats it" if name in best else f"beaten by {front.beaten[name]}")

    title = f"Time against memory at N = {format_slots(front.slots)}"
    x, y = Axis("milliseconds a step", format_number, 2), Axis(PEAK.axis, format_bytes, 4)
    figure = _by_setting(rows, look, "front", title, x, y)
    if figure:
        yield replace(figure, joined=False, panels=tuple(replace(panel, steps=_steps(front)) for panel in figure.panels))


def _steps(front: ParetoFront) -> tuple[tuple[float, float], ...]:
    return tuple(zip(front.rows["step_ms_median"], front.rows["peak_bytes"], strict=True))


def _rows(cases: pd.DataFrame, y: pd.Series, low: pd.Series | None, high: pd.Series | None) -> pd.DataFrame:
    """The cases as rows of panels; those whose value or place is no number are left out."""
    rows = cases.assign(y=y, low=y if low is None else low, high=y if high is None else high, warned=cases["warnings"] != "")
    return rows[np.isfinite(rows["y"].astype(float)) & np.isfinite(rows["x"].astype(float))]


def _dashes(curve: pd.DataFrame) -> str:
    return DASHES.get(str(curve["variant"].iloc[0]), "-.")


def _field_axis(rows: pd.DataFrame, axis: str) -> Axis:
    return Axis(AXES[axis], lambda value: format_slots(int(value)), 2, tuple(sorted(set(rows["x"]))))


def _by_setting(rows: pd.DataFrame, look: Looks, key: str, title: str, x: Axis, y: Axis) -> Multiples | None:
    """A figure with a panel for each setting, or several; None without rows."""
    if rows.empty:
        return None
    rows = rows.sort_values("x", kind="stable")
    settings = _settings(rows)
    chosen: list[tuple[str, Sequence[str]]] = []
    for setting in settings:
        packs = _packs(rows[rows["view"] == setting])
        if not chosen or len(chosen) + len(packs) <= MOST_PANELS:
            chosen += [(setting, pack) for pack in packs[:MOST_PANELS]]
    shown = list(dict.fromkeys(setting for setting, _ in chosen))
    shared = [word for word in shown[0].split(", ") if all(word in setting.split(", ") for setting in shown)]
    panels = []
    for setting, pack in chosen:
        part = rows[(rows["view"] == setting) & rows["curve"].isin(pack)]
        own = [word for word in setting.split(", ") if word not in shared]
        several = sum(setting == other for other, _ in chosen) > 1
        models = [", ".join(dict.fromkeys(part["model"]))] if several else []
        looks = {name: look(name, part[part["curve"] == name]) for name in pack}
        panels.append(Panel(", ".join(own + models), part, looks, setting))
    return Multiples(key, title, ", ".join(shared), x, y, tuple(panels), _note(rows, settings, chosen))


def _settings(rows: pd.DataFrame) -> list[str]:
    """The settings by their number of cases; those in which nothing varies along x only if there is no other."""
    sizes = rows.groupby("view", sort=False)["x"].agg(["size", "nunique"]).sort_values("size", ascending=False, kind="stable")
    varying = sizes[sizes["nunique"] > 1]
    return [str(setting) for setting in (varying if len(varying) else sizes[:1]).index]


def _packs(part: pd.DataFrame) -> list[list[str]]:
    """Curves of a setting in packs that fit a panel; those of a model stay together if they can."""
    packs: list[list[str]] = []
    for _, of_model in part.groupby("model", sort=False):
        names = [str(name) for name in dict.fromkeys(of_model["curve"])]
        if packs and len(packs[-1]) + len(names) <= MOST_CURVES:
            packs[-1] += names
        else:
            packs += [names[start : start + MOST_CURVES] for start in range(0, len(names), MOST_CURVES)]
    return packs


def _note(rows: pd.DataFrame, settings: Sequence[str], chosen: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Say how much is left out."""
    first = chosen[0][0]
    curves = rows.loc[rows["view"] == first, "curve"].nunique() - len(
        {name for setting, pack in chosen if setting == first for name in pack}
    )
    other = len(settings) - len({setting for setting, _ in chosen})
    parts = [f"{count} more {word}{'s' if count > 1 else ''}" for count, word in ((curves, "curve"), (other, "setting")) if count]
    return f"Not shown: {' and '.join(parts)}." if parts else ""
