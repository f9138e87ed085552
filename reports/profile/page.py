"""The page of one profile: what a step costs and holds, in sentences, plots and tables, all from `profile.json`."""

from pathlib import Path

from mann_bench.data.units import format_bytes, format_slots
from mann_bench.measure.advice import advise_memory
from mann_bench.measure.ledger import CAUSES, STATE_CAUSES
from mann_bench.measure.profile import Profile
from mann_bench.reports.html.page import write_page
from mann_bench.reports.html.plots import svg_element, to_svg
from mann_bench.reports.profile import plots


def write_profile_page(profile: Profile, folder: Path) -> Path:
    """Write profile.html into the folder; return its path."""
    figures = [draw(profile) for draw in (plots.draw_memory, plots.draw_time, plots.draw_phases)]
    if profile.case.mode == "train":
        figures.insert(1, plots.draw_tape(profile))
    context = {
        "title": f"{profile.case.name}, N = {format_slots(profile.case.slots)}",
        "setting": setting(profile),
        "verdicts": sentences(profile),
        "cautions": cautions(profile),
        "figures": [svg_element(to_svg(figure)) for figure in figures],
        "ledger": ledger_rows(profile),
        "phases": phase_rows(profile),
        "phases_of": profile.phases_of,
        "nvml": [format_bytes(size_bytes) for size_bytes in profile.nvml_bytes],
        "files": ["profile.json", "steps.csv", "phases.csv", *profile.files],
    }
    return write_page(folder / "profile.html", context)


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
    parts = ", ".join(f"{direction} {ms / case.steps:.3g}" for direction, ms in profile.pass_ms.items())
    lines = [f"A step takes {pass_ms / case.steps:.3g} ms ({parts}); a pass of {case.steps} steps {pass_ms:,.1f} ms."]
    if case.mode == "train":
        interval = ""
        if memory.bytes_per_step_low is not None and memory.bytes_per_step_high is not None:
            interval = f" [{memory.bytes_per_step_low:,.0f}, {memory.bytes_per_step_high:,.0f}]"
        per_slot = memory.bytes_per_step / case.slots / case.batch
        lines.append(f"Each further step keeps {memory.bytes_per_step:,.0f} bytes{interval} for backward, {per_slot:.3g} a slot.")
    forward = [point for point in profile.points if point.direction == "forward"]
    first, last = (sum(point.held.values()) for point in (forward[0], forward[-1]))
    shape = "flat" if last < 1.05 * first else "rising"
    lines.append(
        f"What is held is {shape}: {format_bytes(first)} after step {forward[0].step}, "
        f"{format_bytes(last)} after step {forward[-1].step} ({last / first:.2f} times)."
    )
    largest = sorted(memory.ledger.items(), key=lambda entry: -entry[1])[:3]
    shares = ", ".join(f"{cause.replace('_', ' ')} {size_bytes / memory.peak_bytes:.0%}" for cause, size_bytes in largest if size_bytes)
    lines.append(f"Its peak is {format_bytes(memory.peak_bytes)}: {shares}.")
    top = max(profile.phases, key=lambda row: row.share)
    lines.append(f"Most time goes to {top.phase} {top.direction}: {top.share:.0%} of the pass ({profile.phases_of}).")
    return lines


def cautions(profile: Profile) -> list[str]:
    """State how the steps were measured, and what limits the numbers."""
    slower = sum(profile.recorded_ms.values()) / sum(profile.pass_ms.values())
    by_source = {
        "steps of one pass": "Steps and phases are seen in one recorded pass. Recording makes small operations dearer: "
        f"that pass took {slower:.2g} times as long as one that is not recorded, so trust shares more than milliseconds.",
        "one call a step": "The model shows no steps of its own: it was called once a step, its state carried along, with one backward "
        "over all. Calls and tapes a step differ from those of one call over the whole sequence, for which the ledger and the first "
        "sentence stand.",
        "passes of growing length": "This sequence runs as one call, whose steps cannot be seen from outside: it allocates its whole tape "
        "when it starts. Each point is a pass of its own of that many steps, its time divided by them.",
    }
    return [by_source[profile.how], *advise_memory(profile.memory)]


def ledger_rows(profile: Profile) -> list[dict[str, str | float]]:
    """Return the bytes of each cause at the peak, and what the model's formula predicts."""
    memory, predicted = profile.memory, dict(profile.predicted or {})
    of_state = predicted.pop("state", None)
    rows: list[dict[str, str | float]] = []
    for cause in CAUSES:
        size_bytes, predicted_bytes = memory.ledger[cause], predicted.pop(cause, None)
        if not size_bytes and not predicted_bytes:
            continue
        text = "" if predicted_bytes is None else format_bytes(predicted_bytes)
        if predicted_bytes is None and of_state is not None and cause in STATE_CAUSES:
            text = f"in {format_bytes(of_state)} of state"
        share = size_bytes / memory.peak_bytes
        rows.append({"cause": cause.replace("_", " "), "bytes": format_bytes(size_bytes), "share": share, "predicted": text})
    text = "" if profile.predicted is None else format_bytes(sum(profile.predicted.values()))
    return [*rows, {"cause": "peak", "bytes": format_bytes(memory.peak_bytes), "share": 1.0, "predicted": text}]


def phase_rows(profile: Profile) -> list[dict[str, str | float | None]]:
    """Return the time of each phase and direction, largest share first."""
    rows = sorted(profile.phases, key=lambda row: -row.share)
    on_device = profile.case.device != "cpu"
    return [
        {"phase": r.phase, "direction": r.direction, "host": r.host_ms, "device": r.device_ms if on_device else None, "share": r.share}
        for r in rows
    ]
