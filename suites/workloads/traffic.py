"""Bytes that one call of each op must move at least: every number that it must read or write, once. Caches may save some of them.

With `train`, the bytes of the gradient or the undo are added.
"""

from collections.abc import Callable
from dataclasses import dataclass

REAL = 4  # bytes of a number outside the memory; float64 is for exact tests, not for measuring
INT32, INT64 = 4, 8


@dataclass(frozen=True)
class Sizes:
    """What the traffic of a call depends on."""

    batch: int  # B
    slots: int  # N
    rows: int  # that a search scores
    width: int  # W
    heads: int  # R
    reads: int  # K
    entries: int  # K_L
    item: int  # bytes of a number of the memory
    train: bool


def copy(s: Sizes) -> int:
    """All N rows read and written."""
    return 2 * s.batch * s.slots * s.width * s.item


def topk_content(s: Sizes) -> int:
    """Each scored row and its norm read; R queries read, R K row numbers written."""
    return s.batch * (s.rows * (s.width * s.item + REAL) + s.heads * (s.width * REAL + s.reads * INT64))


def sparse_read(s: Sizes) -> int:
    """K rows a head read with their numbers and weights, R words written; once more for the gradient of the weights."""
    rows = s.heads * s.reads * (s.width * s.item + INT64 + REAL)
    return s.batch * (rows + s.heads * s.width * REAL) * (2 if s.train else 1)


def sparse_write(s: Sizes) -> int:
    """K + 1 rows a head read, journalled and written. Undo: the journal read, rows read and written, their new content journalled."""
    row = s.width * s.item + REAL
    return s.batch * s.heads * (s.reads + 1) * row * (3 + (4 if s.train else 0))


def lru_ring(s: Sizes) -> int:
    """A pop and K touches: each a queue entry, and the row's last position read, written and logged. Undo: three of them."""
    return s.batch * (1 + s.reads) * INT32 * (4 + (3 if s.train else 0))


def link_update(s: Sizes) -> int:
    """Columns of K_L rows of `after` and of the K_L^2 rows of `before` that they name; 2 K_L rows read, journalled and written.

    Undo: the journal and the rows swapped.
    """
    pair = INT32 + REAL
    search = s.entries**2 * INT32 + s.entries**3 * INT32 + 3 * s.entries**2 * REAL
    return s.batch * (search + 2 * s.entries**2 * pair * (3 + (4 if s.train else 0)))


def link_read(s: Sizes) -> int:
    """One row of each matrix for each row read in the step before; columns are returned as int64."""
    return s.batch * 2 * s.heads * s.reads * s.entries * (INT32 + REAL + INT64 + REAL)


def link_steps(s: Sizes) -> int:
    """An update and both reads."""
    return link_update(Sizes(**{**vars(s), "train": False})) + link_read(s)


TRAFFIC: dict[str, Callable[[Sizes], int]] = {
    function.__name__: function
    for function in (copy, topk_content, sparse_read, sparse_write, lru_ring, link_update, link_read, link_steps)
}
