"""The table of the scaling report that holds each dense model against its floor."""

import pandas as pd

from mann_bench.data.units import format_bytes, format_number, format_slots
from mann_bench.reports.data.floor import floor_text
from mann_bench.reports.html.table import Cell, Column, Table


def floor_table(frame: pd.DataFrame) -> Table:
    """Tabulate what a step of each dense model cannot avoid moving, and how near it comes to the rate at which the machine copies."""
    measured = frame[(frame["status"] == "ok") & frame["floor_bytes"].notna()]
    measured = measured[(measured["ran_kernels"] == "native") | ~measured["fits_cache"].astype(bool)]
    rows = tuple(
        (
            Cell(r["setting"]),
            Cell("", r["curve"], ((r["curve"], r["case_id"]),)),
            Cell(r["ran_kernels"]),
            Cell(format_slots(int(r["slots"])), r["slots"]),
            Cell(format_number(r["step_ms_median"]), r["step_ms_median"]),
            Cell(format_bytes(r["floor_bytes"]), r["floor_bytes"]),
            Cell(_rate(r["copy_bytes_per_s"]), _number(r["copy_bytes_per_s"])),
            Cell(floor_text(r), _number(r["floor_share"])),
        )
        for r in measured.to_dict("records")
    )
    note = (
        "Of a model with a dense memory, the bytes that no way of computing a step can avoid to move (docs/models.md), and the share that "
        "they make, in the time the step took, of what the machine copies: reading and writing count both, copies were timed in turn with "
        "the passes on as many threads. The floor holds for memories that fit no cache; of those that do, only native cases are listed."
    )
    heads = [Column("setting"), Column("curve"), Column("kernels"), Column("N", True), Column("ms a step", True)]
    heads += [Column("has to move a step", True), Column("copies", True), Column("reached", wraps=True)]
    return Table("How near the dense models are to their floor", note, tuple(heads), rows)


def _rate(bytes_per_s: float) -> str:
    return "-" if bytes_per_s != bytes_per_s else f"{bytes_per_s / 1e9:.3g} GB/s"


def _number(value: float) -> float | str:
    return "" if value != value else value
