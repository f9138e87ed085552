"""A table as data: what a page or a Markdown file shows, each number with the cases it comes from."""

from dataclasses import dataclass

SortValue = str | float | int


@dataclass(frozen=True)
class Cell:
    """`text` as shown, `sort` what to sort by, `cases` (what to call each, case id) that a page links to."""

    text: str
    sort: SortValue = ""
    cases: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Column:
    """A heading; numbers stand to the right."""

    heading: str
    is_number: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """`note` says how the numbers came about; `anchors` are ids of rows, so that a case can be linked to."""

    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    anchors: tuple[str, ...] = ()
