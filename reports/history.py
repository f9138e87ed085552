"""The history over commits: what asv has stored, as a page that needs no network. asv's own pages take their scripts from three others."""

import json
import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import altair
import pandas as pd

from mann_bench.data.errors import UsageError
from mann_bench.data.fields import JsonObject
from mann_bench.data.text import one_line
from mann_bench.data.units import format_number
from mann_bench.reports.html.interactive import Interactive, finished, scripted
from mann_bench.reports.html.page import write_page
from mann_bench.reports.html.table import Cell, Column, Table

COLUMNS = ("benchmark", "case", "unit", "machine", "commit", "date", "value", "low", "high")
HASH_LENGTH = 8  # of a commit, as shown


def write_history(folder: Path, out: Path) -> Path:
    """Write `history.html` from a folder of asv's results (`.asv/results`) into `out`; return its path.

    Raises:
        UsageError: the folder holds no results, or a file of it cannot be read.
    """
    history = load_history(folder)
    context = {"scripted": scripted(_charts(history)), "tables": [_changes(history)], "environments": []}
    return write_page(out / "history.html", context)


def load_history(folder: Path) -> pd.DataFrame:
    """Load what asv has measured: a row a value, by date.

    Returns:
        Columns `COLUMNS`: `case` is the parameters of the benchmark, `date` is that of the commit, `low` and `high` are the ends of asv's
        99% interval, or the value where there is none. What a commit could not run has no row.

    Raises:
        UsageError: the folder holds no results, or a file of it cannot be read.
    """
    path = folder / "benchmarks.json"
    if not path.is_file():
        raise UsageError(f"--history: expected a folder of asv's results with benchmarks.json, as .asv/results, found none in {folder}")
    units = {name: str(about.get("unit", "")) for name, about in _read(path).items() if isinstance(about, dict)}
    rows: list[tuple[object, ...]] = []
    for file in sorted(path for path in folder.glob("*/*.json") if path.name != "machine.json"):
        try:
            rows += _values(_read(file), units)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{file}: expected what asv writes, which has {error}; remove the file, or run asv again") from error
    if not rows:
        raise UsageError(f"--history: expected measured values, found none in {folder}; `asv run` adds them")
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("date", kind="stable", ignore_index=True)


def _read(path: Path) -> JsonObject:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected JSON as asv writes it, got {one_line(str(error))}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a JSON object as asv writes it, got {type(content).__name__}")
    return content


def _values(file: JsonObject, units: dict[str, str]) -> Iterator[tuple[object, ...]]:
    machine, commit = one_line(str(file["params"]["machine"])), one_line(str(file["commit_hash"]))[:HASH_LENGTH]
    date = pd.Timestamp(int(file["date"]), unit="ms")
    for name, row in file["results"].items():
        columns = dict(zip(file["result_columns"], row, strict=False))
        values = columns["result"] or []
        names = [", ".join(one_line(str(part).strip("'")) for part in parts) for parts in product(*columns.get("params") or [])]
        ends = [columns.get(f"stats_ci_99_{end}") or [None] * len(values) for end in "ab"]
        for value, case, low, high in zip(values, names, *ends, strict=True):
            if isinstance(value, int | float) and math.isfinite(value):
                interval = [end if isinstance(end, int | float) and math.isfinite(end) else value for end in (low, high)]
                yield name.rpartition(".")[2], case, units.get(name, ""), machine, commit, date, float(value), *map(float, interval)


def _charts(history: pd.DataFrame) -> Iterator[Interactive]:
    """A chart for each benchmark: values against the date of the commit, a line a case and machine."""
    rows = history.assign(date=history["date"].dt.strftime("%Y-%m-%dT%H:%M:%S"))
    for number, ((benchmark, unit), part) in enumerate(rows.groupby(["benchmark", "unit"], sort=False)):
        values: list[Any] = part.drop(columns=["benchmark", "unit"]).to_dict("records")
        scale = altair.Scale(type="log") if (part[["value", "low"]] > 0).all(axis=None) else altair.Scale()
        yield Interactive(f"history-{number}", str(benchmark), _specification(str(benchmark), str(unit), scale), values)


def _specification(benchmark: str, unit: str, scale: altair.Scale) -> JsonObject:
    """The Vega-Lite specification of one chart."""
    chosen = altair.selection_point(fields=["case"], bind="legend", name="chosen")
    base = altair.Chart(altair.NamedData(name="rows")).encode(
        x=altair.X("date:T", title=None, axis=altair.Axis(format="%Y-%m-%d", labelOverlap=True)),
        color=altair.Color("case:N", scale=altair.Scale(scheme="category20"), title=None, sort=None),
        detail="machine:N",
        opacity=altair.condition(chosen, altair.value(1), altair.value(0.06)),
    )
    tooltip = ["case:N", "value:Q", "low:Q", "high:Q", "commit:N", "date:T", "machine:N"]
    y = altair.Y("value:Q", scale=scale, title=unit)
    interval = base.mark_rule().encode(y=altair.Y("low:Q", scale=scale, title=unit), y2="high:Q")
    point = base.mark_point(filled=True, size=45).encode(y=y, tooltip=tooltip).add_params(chosen)
    return finished(altair.layer(interval, base.mark_line().encode(y=y), point).properties(title=benchmark))


def _changes(history: pd.DataFrame) -> Table:
    """The newest value of each line, beside the one before and the first."""
    rows = []
    for (benchmark, case, machine), part in history.groupby(["benchmark", "case", "machine"], sort=False):
        first, last = part.iloc[0], part.iloc[-1]
        before = part.iloc[-2] if len(part) > 1 else last
        ratios = [(last["value"] / other["value"], str(other["commit"])) if other["value"] else (math.nan, "") for other in (before, first)]
        newest = (Cell(f"{last['value']:.4g} {last['unit']}", last["value"]), Cell(str(last["commit"])))
        changes = (Cell(f"{format_number(ratio)}x {commit}" if commit else "-", ratio if commit else "") for ratio, commit in ratios)
        rows.append((Cell(str(benchmark)), Cell(str(case)), Cell(str(machine)), Cell(str(len(part)), len(part)), *newest, *changes))
    heads = ("benchmark", "case", "machine", "commits", "newest", "commit", "against the one before", "against the first")
    note = (
        "The newest value, as a multiple of the one before and of the first, which are named. Below 1 is better. Click a heading to sort."
    )
    return Table("Newest values", note, tuple(Column(head, head in ("commits", "newest", *heads[-2:])) for head in heads), tuple(rows))
