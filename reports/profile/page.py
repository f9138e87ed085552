"""The page of one or several profiles: what a step costs and holds, in sentences, charts and tables, all from `profile.json`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mann_bench.data.text import shortened
from mann_bench.data.units import format_bytes, format_number, format_slots
from mann_bench.measure.advice import advise_memory
from mann_bench.measure.profile import Profile
from mann_bench.reports.html.interactive import Scripted, can_draw, scripted
from mann_bench.reports.html.page import Link, write_page
from mann_bench.reports.html.table import LONG
from mann_bench.reports.profile.profiles import colors_by_name, named
from mann_bench.reports.profile.series import DRIVER, memory_lines
from mann_bench.reports.profile.tables import ledger_table, phase_table, summary_table

SIZES = ("slots", "steps", "batch", "word_size", "heads", "reads", "hidden", "mode", "fill", "dtype", "device", "threads")  # of a setting


def write_profile_page(profile: Profile, folder: Path) -> Path:
    """Write the page of one profile into its folder; return its path."""
    return write_profiles_page(named([profile]), folder, files=["profile.json", "steps.csv", "phases.csv", *profile.files])


def write_profiles_page(
    profiles: Mapping[str, Profile],
    out: Path,
    *,
    failures: Mapping[str, str] | None = None,
    files: Sequence[str] = (),
    links: Sequence[Link] = (),
) -> Path:
    """Write profile.html of one or several profiles into `out`; return its path.

    Args:
        profiles: by name; there may be none if all failed.
        failures: why a model has no profile, by its name.
        files: what stands beside the page.
        links: other pages that were written with it.
    """
    out.mkdir(parents=True, exist_ok=True)
    context = {
        "title": _title(profiles),
        "headline": headline(profiles),
        "failures": {name: shortened(reason, LONG) for name, reason in (failures or {}).items()},
        "warnings": {name: profile.warnings for name, profile in profiles.items() if profile.warnings},
        "models": [
            {"name": name, "setting": setting(profile), "verdicts": sentences(profile), "cautions": cautions(profile)}
            for name, profile in profiles.items()
        ],
        "charts": _charts(profiles),
        "figures": [] if can_draw() else [(name, svg) for name, profile in profiles.items() for svg in _figures(profile)],
        "tables": [summary_table(profiles), ledger_table(profiles), phase_table(profiles)] if profiles else [],
        "files": files,
        "links": links,
        "environments": [],
    }
    return write_page(out / "profile.html", context)


def _title(profiles: Mapping[str, Profile]) -> str:
    sizes = {profile.case.slots for profile in profiles.values()}
    if len(sizes) == 1:
        return f"{', '.join(profiles)}, N = {format_slots(sizes.pop())}"
    return "; ".join(f"{name}, N = {format_slots(profile.case.slots)}" for name, profile in profiles.items()) or "Nothing profiled"


def _charts(profiles: Mapping[str, Profile]) -> Scripted | None:
    if not profiles or not can_draw():
        return None
    from mann_bench.reports.profile.charts import make_charts

    return scripted(make_charts(profiles, colors_by_name(profiles)))


def _figures(profile: Profile) -> list[str]:
    """The static plots as SVG, for a machine without the packages of the charts."""
    from mann_bench.reports.html.plots import svg_element, to_svg
    from mann_bench.reports.profile import plots

    training = [plots.draw_tape] if profile.case.mode == "train" else []
    return [svg_element(to_svg(draw(profile))) for draw in (plots.draw_memory, *training, plots.draw_time, plots.draw_phases)]


def headline(profiles: Mapping[str, Profile]) -> str:
    """Answer what a step costs and holds in a sentence; of several profiles, which takes least."""
    costs = {name: sum(profile.pass_ms.values()) / profile.case.steps for name, profile in profiles.items()}
    kept = {name: profile.memory.bytes_per_step for name, profile in profiles.items() if profile.case.mode == "train"}
    peaks = {name: float(profile.memory.peak_bytes) for name, profile in profiles.items()}
    if len(profiles) < 2:
        return " ".join(sentences(profile)[0] for profile in profiles.values()) or "No model could be profiled; the reasons are below."
    parts = [_ranked("time a step", costs, lambda ms: f"{format_number(ms)} ms")]
    parts += [_ranked("bytes kept for backward by each further step", kept, lambda size: f"{size:,.0f}")] if len(kept) > 1 else []
    parts.append(_ranked("peak memory", peaks, format_bytes))
    differing = [name.replace("_", " ") for name in SIZES if len({getattr(profile.case, name) for profile in profiles.values()}) > 1]
    note = f" The profiles differ in {', '.join(differing)}, which the ratios hold too." if differing else ""
    return f"{'. '.join(parts)}.{note}"


def _ranked(what: str, values: Mapping[str, float], text: Callable[[float], str]) -> str:
    """`Least peak memory: sam 9.9 MiB, sdnc 1.8 times as much`."""
    ordered = sorted(values.items(), key=lambda entry: entry[1])
    (first, least), others = ordered[0], ordered[1:]
    rest = [f"{name} " + (f"{format_number(value / least)} times as much" if least > 0 else text(value)) for name, value in others]
    return f"Least {what}: {first} {text(least)}, {', '.join(rest)}"


def setting(profile: Profile) -> str:
    """Describe the case and what ran it in a line."""
    case, backend = profile.case, profile.backend
    sizes = f"T {case.steps}, B {case.batch}, W {case.word_size}, R {case.heads}, K {case.reads}, H {case.hidden}"
    threads = "1 thread" if case.threads == 1 else f"{case.threads} threads"
    return f"{case.mode}, {sizes}, {case.fill} memory, {case.dtype}, {threads} on {backend.device_name}; kernels {backend.kernels}"


def sentences(profile: Profile) -> list[str]:
    """State the main results: time and memory of a step, the peak, the most expensive phase."""
    case, memory = profile.case, profile.memory
    pass_ms = sum(profile.pass_ms.values())
    parts = ", ".join(f"{direction} {format_number(ms / case.steps)}" for direction, ms in profile.pass_ms.items())
    lines = [f"A step takes {format_number(pass_ms / case.steps)} ms ({parts}); a pass of {case.steps} steps {pass_ms:,.1f} ms."]
    if case.mode == "train":
        interval = ""
        if memory.bytes_per_step_low is not None and memory.bytes_per_step_high is not None:
            interval = f" [{memory.bytes_per_step_low:,.0f}, {memory.bytes_per_step_high:,.0f}]"
        per_slot = memory.bytes_per_step / case.slots / case.batch
        lines.append(
            f"Each further step keeps {memory.bytes_per_step:,.0f} bytes{interval} for backward, {format_number(per_slot)} a slot."
        )
    forward = [point for point in profile.points if point.direction == "forward"]
    first, last = (sum(point.held.values()) for point in (forward[0], forward[-1]))
    shape = "flat" if last < 1.05 * first else "rising"
    times = f" ({last / first:.2f} times)" if first else ""
    if len(forward) > 1:
        ends = f"{format_bytes(first)} after step {forward[0].step}, {format_bytes(last)} after step {forward[-1].step}{times}"
        called = ", where the model is called a step at a time," if profile.how == "one call a step" else ""
        lines.append(f"What is held{called} is {shape}: {ends}.")
    largest = sorted(memory.ledger.items(), key=lambda entry: -entry[1])[:3]
    shares = ", ".join(f"{cause.replace('_', ' ')} {size_bytes / memory.peak_bytes:.0%}" for cause, size_bytes in largest if size_bytes)
    lines.append(f"The peak of a pass is {format_bytes(memory.peak_bytes)}: {shares}." if shares else "It holds no memory.")
    top = max(profile.phases, key=lambda row: row.share)
    lines.append(f"Most time goes to {top.phase} {top.direction}: {top.share:.0%} of the pass ({profile.phases_of}).")
    return lines


def cautions(profile: Profile) -> list[str]:
    """State how the steps were measured, and what limits the numbers."""
    pass_ms = sum(profile.pass_ms.values())
    slower = sum(profile.recorded_ms.values()) / pass_ms if pass_ms else float("nan")
    by_source = {
        "steps of one pass": "Steps and phases are seen in one recorded pass. Recording makes small operations dearer: "
        f"that pass took {slower:.2g} times as long as one that is not recorded, so trust shares more than milliseconds.",
        "one call a step": "The model shows no steps of its own: it was called once a step, its state carried along, with one backward "
        "over all. Calls and tapes a step differ from those of one call over the whole sequence, for which the ledger and the first "
        "sentence stand.",
        "passes of growing length": "This sequence runs as one call, whose steps cannot be seen from outside: it allocates its whole tape "
        "when it starts. Each point is a pass of its own of that many steps, its time divided by them.",
    }
    lines = [by_source[profile.how], *advise_memory(profile.memory)]
    driver = max((row["bytes"] for row in memory_lines("", profile) if row["line"] == DRIVER), default=0)
    if driver:
        beyond = driver - profile.memory.peak_bytes
        lines.append(
            f"The driver counts {format_bytes(driver)} of this process, {format_bytes(beyond)} more than the allocator's peak: the "
            "context, the code of kernels, and what the allocator has reserved. It hardly depends on the model."
        )
    return lines
