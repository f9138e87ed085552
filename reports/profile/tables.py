"""The tables of profiles: what each model costs, whose bytes its peak is, and where its time goes."""

from collections.abc import Mapping

from mann_bench.data.units import format_bytes, format_number, format_slots
from mann_bench.measure.ledger import CAUSES, STATE_CAUSES
from mann_bench.measure.profile import Profile
from mann_bench.reports.html.table import Cell, Column, Table


def summary_table(profiles: Mapping[str, Profile]) -> Table:
    """Tabulate time, bytes a step and peaks, a model a row."""
    rows = []
    for name, profile in profiles.items():
        case, memory = profile.case, profile.memory
        step_ms = [profile.pass_ms[way] / case.steps if way in profile.pass_ms else None for way in ("forward", "backward")]
        kept = memory.bytes_per_step if case.mode == "train" else None
        cells = [
            Cell(name),
            Cell(format_slots(case.slots), case.slots),
            Cell(f"{case.steps:,}", case.steps),
            Cell(str(case.batch), case.batch),
        ]
        cells += [Cell("-") if ms is None else Cell(format_number(ms), ms) for ms in step_ms]
        cells += [Cell("-") if kept is None else Cell(f"{kept:,.0f}", kept), _bytes(memory.peak_bytes), _bytes(memory.state_bytes)]
        cells += [_bytes(profile.nvml_bytes[-1]) if profile.nvml_bytes else Cell("-"), Cell(profile.backend.device_name)]
        rows.append((*cells, Cell(profile.backend.kernels)))
    heads = ("N", "T", "B", "forward, ms a step", "backward, ms a step", "bytes kept a step", "peak", "state", "driver")
    columns = (Column("model"), *(Column(head, True) for head in heads), Column("device"), Column("kernels"))
    note = "Times of passes that are not recorded. Peak and state as the allocator counts them; driver: the whole process on a GPU."
    return Table("Summary", note, columns, tuple(rows))


def ledger_table(profiles: Mapping[str, Profile]) -> Table:
    """Tabulate the bytes of each cause at the peak, and what the model's formula predicts."""
    rows = [(Cell(name), *cells) for name, profile in profiles.items() for cells in _ledger_rows(profile)]
    columns = (Column("model"), Column("cause"), *(Column(head, True) for head in ("held", "share", "predicted")))
    note = "The causes sum to the allocator's own peak; unattributed is what no known cause holds."
    return Table("Ledger of the peak", note, columns, tuple(rows))


def _ledger_rows(profile: Profile) -> list[tuple[Cell, ...]]:
    memory, predicted = profile.memory, dict(profile.predicted or {})
    of_state = predicted.pop("state", None)
    rows = []
    for cause in CAUSES:
        size_bytes, predicted_bytes = memory.ledger[cause], predicted.pop(cause, None)
        if not size_bytes and not predicted_bytes:
            continue
        foreseen = Cell("") if predicted_bytes is None else _bytes(predicted_bytes)
        if predicted_bytes is None and of_state is not None and cause in STATE_CAUSES:
            foreseen = Cell(f"in {format_bytes(of_state)} of state", of_state)
        share = size_bytes / memory.peak_bytes if memory.peak_bytes else 0.0
        rows.append((Cell(cause.replace("_", " ")), _bytes(size_bytes), Cell(f"{share:.1%}", share), foreseen))
    whole = Cell("") if profile.predicted is None else _bytes(sum(profile.predicted.values()))
    return [*rows, (Cell("peak"), _bytes(memory.peak_bytes), Cell("100.0%", 1.0), whole)]


def phase_table(profiles: Mapping[str, Profile]) -> Table:
    """Tabulate the time of each phase and direction, the largest share of each model first."""
    rows = []
    for name, profile in profiles.items():
        on_device = profile.case.device != "cpu"
        for phase in sorted(profile.phases, key=lambda row: -row.share):
            device = Cell(f"{phase.device_ms:.2f}", phase.device_ms) if on_device else Cell("-")
            cells = (Cell(phase.phase), Cell(phase.direction), Cell(f"{phase.host_ms:.2f}", phase.host_ms), device)
            rows.append((Cell(name), *cells, Cell(f"{phase.share:.1%}", phase.share)))
    sources = dict.fromkeys(f"{name}: {profile.phases_of}" for name, profile in profiles.items())
    note = f"Measured in: {'; '.join(sources)}. Backward work belongs to the phase whose forward made it; rest lies between operations."
    heads = (Column("model"), Column("phase"), Column("direction"), *(Column(head, True) for head in ("host ms", "device ms", "share")))
    return Table("Time by phase", note, heads, tuple(rows))


def _bytes(size_bytes: float) -> Cell:
    return Cell(format_bytes(size_bytes), size_bytes)
