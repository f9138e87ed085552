"""The interactive charts of profiles: what is held against the step, whose bytes they are, and where the time goes."""

import json
from collections.abc import Iterator, Mapping, Sequence

import altair

from mann_bench.data.units import format_bytes, format_number
from mann_bench.measure.ledger import CAUSES
from mann_bench.measure.profile import Profile
from mann_bench.reports.html.colors import INK
from mann_bench.reports.html.interactive import BYTE_TICKS, BYTES, Interactive, Row, above_zero, chooser, finished, only, unchecked
from mann_bench.reports.profile.series import COLORS, MEMORY_LINES, memory_lines, moments, whole_passes

Layers = altair.LayerChart | altair.FacetChart  # what altair types layers as
HELD = {
    "added": "added by the pass, as figure 1b of Rae et al. 2016",
    "all": "all that is held",
    "tape": "kept for backward alone",
}
ADDED = ("tape", "workspace", "unattributed")  # causes that a pass adds to what is there before it
LINE_COLORS = ("#d1490c", "#1c1c1c", "#0a6bcc", "#7a1fa2")  # of MEMORY_LINES, in their order
PHASE_COLORS = ("#0a6bcc", "#e08a1e", "#006b4a", "#b00020", "#7a1fa2", "#6fb0c9", "#8c8c0e", "#a01a6b", "#08407a", "#d0d0d0")
ROW = 46  # pixels of a bar and the room around it
SHARES = {"bytes": "bytes", "share": "% of its peak"}
FAR_APART = 20  # times; values that differ by more are drawn on a logarithmic axis


@unchecked()
def make_charts(profiles: Mapping[str, Profile], colors: Mapping[str, str]) -> list[Interactive]:
    """Make the charts of one or several profiles, the most telling first."""
    return [
        _held(profiles, colors),
        _by_cause(profiles),
        _peaks(profiles),
        _phases(profiles),
        _step_times(profiles, colors),
        _counted(profiles),
    ]


def _held(profiles: Mapping[str, Profile], colors: Mapping[str, str]) -> Interactive:
    """Bytes held at the end of each step's forward, of all models."""
    every = [row for name, profile in profiles.items() for row in _held_rows(name, profile)]
    rows, hidden = above_zero(every, "bytes")
    what = chooser("what", "bytes", {key: text for key, text in HELD.items() if any(row["held"] == key for row in rows)} or HELD)
    x = altair.X("step:Q", title="step of the forward pass", axis=altair.Axis(tickMinStep=1, grid=False, format="d"))
    y = _bytes_axis("bytes held", [[row for row in rows if row["held"] == what] for what in HELD])
    chart = altair.Chart(altair.NamedData(name="rows")).transform_filter("datum.held === what").encode(x=x, y=y, color=_color(colors))
    layers = _chosen_lines(chart, list(profiles)).add_params(what)
    note = "At the end of each step, forward; of a pass of so many steps where steps cannot be seen. Both axes follow the choice."
    return Interactive(
        "held", "Bytes held against the step", finished(layers.properties(title="Held against the step")), rows, note + _gone(hidden)
    )


def _held_rows(name: str, profile: Profile) -> Iterator[Row]:
    for point in profile.points:
        if point.direction == "forward":
            total = sum(point.held.values())
            sizes = {"added": sum(point.held[cause] for cause in ADDED), "all": total, "tape": point.held["tape"]}
            for what, size_bytes in sizes.items():
                yield {"curve": name, "step": point.step, "held": what, "bytes": size_bytes, "text": format_bytes(size_bytes)}


def _by_cause(profiles: Mapping[str, Profile]) -> Interactive:
    """What each cause holds through the pass of one model."""
    rows: list[Row] = [
        {"model": name, "moment": moment.label, "order": moment.number, "cause": _words(cause), "bytes": size, "text": format_bytes(size)}
        for name, profile in profiles.items()
        for moment in moments(profile)
        for cause, size in moment.point.held.items()
    ]
    causes = [_words(cause) for cause in COLORS if any(row["cause"] == _words(cause) and row["bytes"] for row in rows)]
    rows = [row for row in rows if row["cause"] in causes]
    order = altair.Order("index:Q", sort="ascending")
    base = altair.Chart(altair.NamedData(name="rows")).transform_filter("datum.model === model_shown")
    base = base.transform_calculate(index=f"indexof({json.dumps(causes)}, datum.cause)")
    colored = _palette("cause", causes, [COLORS[cause] for cause in COLORS if _words(cause) in causes])
    y = altair.Y("bytes:Q", title="bytes held", axis=altair.Axis(labelExpr=BYTES, values=_ticks("y")), stack="zero")
    tooltip = ["model:N", "moment:N", "cause:N", altair.Tooltip("text:N", title="held")]
    area = base.mark_bar(width={"band": 1}, strokeWidth=0).encode(
        x=_moment_axis(profiles), y=y, color=colored, order=order, tooltip=tooltip
    )
    chart = area.add_params(_model(profiles, "model_shown")).properties(title="Held through the pass, by cause")
    note = "After each step: forward, then backward from the last step to the first."
    return Interactive("by-cause", "Bytes held through the pass, by cause", finished(chart), rows, note)


def _peaks(profiles: Mapping[str, Profile]) -> Interactive:
    """Whose bytes the peak of each model is."""
    rows: list[Row] = []
    for name, profile in profiles.items():
        peak = profile.memory.peak_bytes
        for cause in CAUSES:
            size = profile.memory.ledger[cause]
            if size:
                text = f"{format_bytes(size)}, {size / peak:.1%} of {format_bytes(peak)}" if peak else format_bytes(size)
                shares = {"bytes": size, "share": 100 * size / peak if peak else None}
                rows += [
                    {"model": name, "cause": _words(cause), "as": what, "value": value, "text": text} for what, value in shares.items()
                ]
    causes = [_words(cause) for cause in COLORS if any(row["cause"] == _words(cause) for row in rows)]
    colored = _palette("cause", causes, [COLORS[cause] for cause in COLORS if _words(cause) in causes])
    label = f"shown_as === 'share' ? datum.value + '%' : ({BYTES})"
    ticks = {"expr": f"shown_as === 'share' ? [0, 20, 40, 60, 80, 100] : {BYTE_TICKS['expr']}"}
    chart = _bars(rows, ["model"], "cause", causes, colored, label, ticks, "shown_as", SHARES).properties(title="Ledger of the peak")
    note = "The causes sum to the allocator's own peak; unattributed is what no known cause holds."
    return Interactive("peaks", "Ledger of the peak, by cause", finished(chart, 60 + ROW * len(profiles)), rows, note)


def _phases(profiles: Mapping[str, Profile]) -> Interactive:
    """Time of each phase, forward and backward, of each model."""
    rows: list[Row] = []
    for name, profile in profiles.items():
        on_device = profile.case.device != "cpu"
        for phase in profile.phases:
            ms = phase.device_ms if on_device else phase.host_ms
            text = f"{format_number(ms)} ms, {phase.share:.1%} of the pass"
            for what, value in (("ms", ms), ("share", 100 * phase.share)):
                rows.append(
                    {"model": name, "pass": f"{name} {phase.direction}", "phase": phase.phase, "as": what, "value": value, "text": text}
                )
    phases = [*dict.fromkeys(str(row["phase"]) for row in rows if row["phase"] != "rest"), "rest"]
    *palette, of_rest = PHASE_COLORS
    colored = _palette("phase", phases, [*(palette[number % len(palette)] for number in range(len(phases) - 1)), of_rest])
    label = "datum.value + (time_as === 'share' ? '%' : ' ms')"
    bars = _bars(
        rows, ["pass", "model"], "phase", phases, colored, label, None, "time_as", {"share": "% of the pass", "ms": "milliseconds"}
    )
    passes = len(dict.fromkeys(row["pass"] for row in rows))
    note = "Backward work belongs to the phase whose forward made it; rest is what lies between operations."
    return Interactive("phases", "Time by phase", finished(bars.properties(title="Where the time goes"), 60 + ROW * passes), rows, note)


def _step_times(profiles: Mapping[str, Profile], colors: Mapping[str, str]) -> Interactive:
    """Time of each step, forward and backward, of all models."""
    every: list[Row] = [
        {"curve": name, "step": point.step, "direction": point.direction, "ms": point.ms, "text": f"{format_number(point.ms)} ms"}
        for name, profile in profiles.items()
        for point in profile.points
    ]
    rows, hidden = above_zero(every, "ms")
    far = _far_apart([row["ms"] for row in rows])
    scale = altair.Scale(type="log") if far else altair.Scale(zero=True)
    title = "ms a step" if any(map(whole_passes, profiles.values())) else "ms in the recorded pass"
    x = altair.X("step:Q", title="step", axis=altair.Axis(tickMinStep=1, grid=False, format="d"))
    base = altair.Chart(altair.NamedData(name="rows")).transform_filter("way === 'both' || datum.direction === way")
    dash = altair.StrokeDash(
        "direction:N",
        scale=altair.Scale(domain=["forward", "backward"], range=[[1, 0], [5, 3]]),
        legend=altair.Legend(symbolType="stroke", symbolStrokeColor=INK, symbolFillColor="transparent", symbolSize=250),
        title=None,
    )
    base = base.encode(x=x, y=altair.Y("ms:Q", title=title, scale=scale), color=_color(colors), strokeDash=dash)
    way = chooser("way", "direction", {"both": "both", "forward": "forward", "backward": "backward"})
    chart = _chosen_lines(base, list(profiles)).add_params(way).properties(title="Time of a step")
    return Interactive("step-times", "Time of a step", finished(chart), rows, "Recording makes small operations dearer." + _gone(hidden))


def _counted(profiles: Mapping[str, Profile]) -> Interactive:
    """Memory as the ledger, the allocator and the driver count it, through the pass of one model."""
    every = [row for name, profile in profiles.items() for row in memory_lines(name, profile)]
    rows, hidden = above_zero(every, "bytes")
    lines = [line for line in MEMORY_LINES if any(row["line"] == line for row in rows)]
    colored = _palette("line", lines, [LINE_COLORS[MEMORY_LINES.index(line)] for line in lines])
    dashes = altair.Scale(domain=lines, range=[[[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]][MEMORY_LINES.index(line)] for line in lines])
    y = _bytes_axis("bytes", [[row for row in rows if row["model"] == name] for name in profiles])
    base = altair.Chart(altair.NamedData(name="rows")).transform_filter("datum.model === model_counted")
    base = base.encode(x=_moment_axis(profiles), y=y, color=colored, strokeDash=altair.StrokeDash("line:N", scale=dashes, title=None))
    tooltip = ["model:N", "moment:N", "line:N", altair.Tooltip("text:N", title="bytes")]
    layers: Layers = altair.layer(base.mark_line(), base.mark_point(filled=True, size=40).encode(tooltip=tooltip))
    chart = layers.add_params(_model(profiles, "model_counted")).properties(title="Memory by who counts it")
    note = "The ledger counts what a known cause holds, the allocator all that it gave out"
    note += ", the driver all of the process: context, code of kernels and what the allocator keeps in reserve." if len(lines) > 3 else "."
    return Interactive("counted", "Memory as ledger, allocator and driver count it", finished(chart), rows, note + _gone(hidden))


def _bytes_axis(title: str, views: Sequence[Sequence[Row]]) -> altair.Y:
    """The axis of bytes above 0: linear from 0, or logarithmic where those of a view lie far apart."""
    if any(_far_apart([row["bytes"] for row in rows]) for rows in views):
        return altair.Y("bytes:Q", title=title, scale=altair.Scale(type="log", base=2), axis=altair.Axis(labelExpr=BYTES, tickCount=7))
    return altair.Y("bytes:Q", title=title, scale=altair.Scale(zero=True), axis=altair.Axis(labelExpr=BYTES, values=_ticks("y")))


def _far_apart(values: Sequence[float]) -> bool:
    return bool(values) and max(values) > FAR_APART * min(values)


def _moment_axis(profiles: Mapping[str, Profile]) -> altair.X:
    passes = any(map(whole_passes, profiles.values()))
    backward = any(moment.label.startswith("b") for profile in profiles.values() for moment in moments(profile))
    title = "steps of the pass, at the end of its forward" if passes else "step"
    if backward:
        title = "step" + (
            " of the forward (f), then of the backward (b)" if not passes else "s of a pass, or step: forward (f), backward (b)"
        )
    axis = altair.Axis(grid=False, labelAngle=0)
    return altair.X("moment:N", title=title, sort=altair.EncodingSortField("order", op="min"), axis=axis)


def _bars(
    rows: list[Row],
    names: list[str],
    part: str,
    parts: list[str],
    colored: altair.Color,
    label: str,
    ticks: dict[str, str] | None,
    parameter: str,
    choices: Mapping[str, str],
) -> altair.Chart:
    """Stacked bars, a row for each value of the first name, of what a list chooses."""
    y = altair.Y(
        f"{names[0]}:N", title=None, sort=list(dict.fromkeys(str(row[names[0]]) for row in rows)), axis=altair.Axis(labelLimit=130)
    )
    axis = altair.Axis(labelExpr=label, tickCount=6) if ticks is None else altair.Axis(labelExpr=label, values=ticks)
    x = altair.X("value:Q", title=None, stack="zero", axis=axis, scale=altair.Scale(nice=False))
    base = altair.Chart(altair.NamedData(name="rows")).transform_filter(f"datum.as === {parameter}")
    base = base.transform_calculate(index=f"indexof({json.dumps(parts)}, datum.{part})")
    tooltip = [f"{names[0]}:N", f"{part}:N", altair.Tooltip("text:N", title="value")]
    bars = base.mark_bar(stroke="white", strokeWidth=0.5).encode(x=x, y=y, color=colored, order="index:Q", tooltip=tooltip)
    chart: altair.Chart = bars.add_params(chooser(parameter, "shown as", choices))
    return chart


def _chosen_lines(base: altair.Chart, names: list[str]) -> Layers:
    """Lines with points: a list, or a click on a name, leaves one of them."""
    chosen = altair.selection_point(fields=["curve"], bind="legend", name="chosen")
    base = base.transform_filter("only === null || datum.curve === only")
    opacity = altair.condition(chosen, altair.value(1), altair.value(0.06))
    tooltip = [altair.Tooltip("curve:N", title="model"), "step:Q", altair.Tooltip("text:N", title="value")]
    shape = altair.Shape("curve:N", scale=altair.Scale(domain=names), title=None)
    points = base.mark_point(filled=True, size=45).encode(opacity=opacity, tooltip=tooltip, shape=shape)
    layers: Layers = altair.layer(base.mark_line().encode(opacity=opacity), points.add_params(chosen)).add_params(only("model", names))
    return layers


def _color(colors: Mapping[str, str]) -> altair.Color:
    return _palette("curve", list(colors), list(colors.values()))


def _palette(field: str, names: list[str], colors: list[str]) -> altair.Color:
    return altair.Color(f"{field}:N", scale=altair.Scale(domain=names, range=colors), title=None)


def _model(profiles: Mapping[str, Profile], parameter: str) -> altair.Parameter:
    return chooser(parameter, "model", {name: name for name in profiles})


def _ticks(axis: str) -> dict[str, str]:
    return {"expr": f"sequence(0, domain('{axis}')[1] * 1.001, pow(2, ceil(log(max(8, domain('{axis}')[1]) / 6) / LN2)))"}


def _words(cause: str) -> str:
    return cause.replace("_", " ")


def _gone(hidden: int) -> str:
    return f" {hidden} values of zero or less have no place on a logarithmic axis; the CSV beside this page has them." if hidden else ""
