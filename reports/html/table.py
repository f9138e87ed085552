"""A table as data, for a page or a Markdown file; each number can name the cases that it comes from."""

from dataclasses import dataclass

LONG = 2000  # characters of a reason that are shown in a cell

SortValue = str | float | int


@dataclass(frozen=True)
class Cell:
    """`text` is shown, `sort` is sorted by (default: the text); `cases` are links as (label, case id); `details` unfold on a page."""

    text: str
    sort: SortValue = ""
    cases: tuple[tuple[str, str], ...] = ()
    details: str = ""


@dataclass(frozen=True)
class Column:
    """A heading; numbers are aligned to the right, long texts may wrap."""

    heading: str
    is_number: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """`note` explains how the numbers are obtained; `anchors` are the HTML ids of the rows, one a row or none."""

    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    anchors: tuple[str, ...] = ()
