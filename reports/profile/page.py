"""The page of one profile: what a step costs and holds, in sentences, plots and tables. Everything comes from `profile.json`."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mann_bench import __version__
from mann_bench.data.store import write_atomically
from mann_bench.data.units import format_bytes, format_slots
from mann_bench.measure.advice import advise_memory
from mann_bench.measure.ledger import CAUSES, STATE_CAUSES
from mann_bench.measure.profile import Profile
from mann_bench.reports.html.plots import svg
from mann_bench.reports.profile import plots


def write_profile_page(profile: Profile, folder: Path) -> Path:
    """Write profile.html into the folder; returns its path."""
    figures = [draw(profile) for draw in (plots.draw_memory, plots.draw_time, plots.draw_phases)]
    if profile.memory.tape_bytes:
        figures.insert(1, plots.draw_tape(profile))
    environment = Environment(
        loader=PackageLoader("mann_bench.reports.html"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    case = profile.case
    context = {
        "version": __version__,
        "title": f"{case.name}, N = {format_slots(case.slots)}",
        "setting": setting(profile),
        "verdicts": verdicts(profile),
        "cautions": cautions(profile),
        "figures": [svg(figure) for figure in figures],
        "ledger": ledger_table(profile),
        "phases": phase_table(profile),
        "phases_of": profile.phases_of,
        "nvml": [format_bytes(size_bytes) for size_bytes in profile.nvml_bytes],
        "files": ["profile.json", "steps.csv", "phases.csv", *profile.files],
    }
    page = folder / "profile.html"
    write_atomically(page, environment.get_template("profile.html.j2").render(context))
    return page


def setting(profile: Profile) -> str:
    """The case in words."""
    case, ran = profile.case, profile.backend
    sizes = f"T {case.steps}, B {case.batch}, W {case.word_size}, R {case.heads}, K {case.reads}, H {case.hidden}"
    threads = "1 thread" if case.threads == 1 else f"{case.threads} threads"
    return f"{case.mode}, {sizes}, {case.fill} memory, {case.dtype}, {threads} on {ran.device_name}; kernels {ran.kernels}"


def verdicts(profile: Profile) -> list[str]:
    """What a reader should take away, a sentence each."""
    case, memory = profile.case, profile.memory
    pass_ms = sum(profile.pass_ms.values())
    parts = ", ".join(f"{direction} {ms / case.steps:.3g}" for direction, ms in profile.pass_ms.items())
    said = [f"A step takes {pass_ms / case.steps:.3g} ms ({parts}); a pass of {case.steps} steps {pass_ms:,.1f} ms."]
    if case.mode == "train":
        interval = ""
        if memory.bytes_per_step_low is not None and memory.bytes_per_step_high is not None:
            interval = f" [{memory.bytes_per_step_low:,.0f}, {memory.bytes_per_step_high:,.0f}]"
        a_slot = memory.bytes_per_step / case.slots / case.batch
        said.append(f"Each further step keeps {memory.bytes_per_step:,.0f} bytes{interval} for backward, {a_slot:.3g} a slot.")
    forward = [point for point in profile.points if point.direction == "forward"]
    first, last = (sum(point.held.values()) for point in (forward[0], forward[-1]))
    shape = "flat" if last < 1.05 * first else "rising"
    said.append(
        f"What is held is {shape}: {format_bytes(first)} after step {forward[0].step}, "
        f"{format_bytes(last)} after step {forward[-1].step} ({last / first:.2f} times)."
    )
    largest = sorted(memory.ledger.items(), key=lambda entry: -entry[1])[:3]
    shares = ", ".join(f"{cause.replace('_', ' ')} {size_bytes / memory.peak_bytes:.0%}" for cause, size_bytes in largest if size_bytes)
    said.append(f"Its peak is {format_bytes(memory.peak_bytes)}: {shares}.")
    top = max(profile.phases, key=lambda row: row.share)
    said.append(f"Most time goes to {top.phase} {top.direction}: {top.share:.0%} of the pass ({profile.phases_of}).")
    return said


def cautions(profile: Profile) -> list[str]:
    """How far to trust what."""
    slower = sum(profile.recorded_ms.values()) / sum(profile.pass_ms.values())
    said = {
        "steps of one pass": "Steps and phases are seen in one recorded pass. Recording makes small operations dearer: "
        f"that pass took {slower:.2g} times as long as one that is not recorded, so trust shares more than milliseconds.",
        "one call a step": "The model shows no steps of its own: it was called once a step, its state carried along, with one backward "
        "over all. Calls and tapes a step differ from those of one call over the whole sequence, for which the ledger and the first "
        "sentence stand.",
        "passes of growing length": "This sequence runs as one call, whose steps cannot be seen from outside: it allocates its whole tape "
        "when it starts. Each point is a pass of its own of that many steps, its time divided by them.",
    }
    return [said[profile.how], *advise_memory(profile.memory)]


def ledger_table(profile: Profile) -> list[dict[str, Any]]:
    """Each cause at the peak beside what the model's own formula predicts."""
    memory, predicted = profile.memory, dict(profile.predicted or {})
    of_state = predicted.pop("state", None)
    rows = []
    for cause in CAUSES:
        size_bytes = memory.ledger[cause]
        said = predicted.pop(cause, None)
        if not size_bytes and not said:
            continue
        text = (
            format_bytes(said)
            if said is not None
            else f"in {format_bytes(of_state)} of state"
            if of_state and cause in STATE_CAUSES
            else ""
        )
        rows.append(
            {"cause": cause.replace("_", " "), "bytes": format_bytes(size_bytes), "share": size_bytes / memory.peak_bytes, "said": text}
        )
    whole = sum((profile.predicted or {}).values())
    rows.append({"cause": "peak", "bytes": format_bytes(memory.peak_bytes), "share": 1.0, "said": format_bytes(whole) if whole else ""})
    return rows


def phase_table(profile: Profile) -> list[dict[str, Any]]:
    """Every phase and direction, largest first."""
    rows = sorted(profile.phases, key=lambda row: -row.share)
    return [{"phase": r.phase, "direction": r.direction, "host": r.host_ms, "device": r.device_ms, "share": r.share} for r in rows]
