"""A table as data, for a page or a Markdown file; each number can name the cases that it comes from."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mann_bench.data.files import write_atomically
from mann_bench.data.text import defused

MOST_ROWS = 1000  # of a table on a page; a longer one is also written as CSV
LONG = 2000  # characters of a reason that are shown in a cell

SortValue = str | float | int


@dataclass(frozen=True)
class Cell:
    """`text` is shown, `sort` is sorted by (default: the text); `cases` are links as (label, case id); `details` unfold on a page.

    `links`: other pages, as (label, path).
    """

    text: str
    sort: SortValue = ""
    cases: tuple[tuple[str, str], ...] = ()
    details: str = ""
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Column:
    """A heading; numbers are aligned to the right, long texts may wrap."""

    heading: str
    is_number: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """`note` explains how the numbers are obtained; `anchors` are the HTML ids of the rows, one a row or none.

    `file`, of a table that was cut: where all its rows are, from the page.
    """

    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    anchors: tuple[str, ...] = ()
    file: str | None = None

    @property
    def anchor(self) -> str:
        """The title as an HTML id, and as the stem of a file."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def shorten(tables: Sequence[Table], out: Path) -> list[Table]:
    """Cut tables for a page to `MOST_ROWS` rows; those that are longer are written whole to `out/tables/TITLE.csv`."""
    return [_cut(table, out) if len(table.rows) > MOST_ROWS else table for table in tables]


def _cut(table: Table, out: Path) -> Table:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([column.heading for column in table.columns])
    for row in table.rows:
        writer.writerow([defused(cell.text) if cell.text else "; ".join(case for _, case in cell.cases) for cell in row])
    (out / "tables").mkdir(parents=True, exist_ok=True)
    write_atomically(out / "tables" / f"{table.anchor}.csv", text.getvalue())
    note = f"{table.note} The first {MOST_ROWS:,} of {len(table.rows):,} rows."
    return replace(table, rows=table.rows[:MOST_ROWS], anchors=table.anchors[:MOST_ROWS], note=note, file=f"tables/{table.anchor}.csv")
