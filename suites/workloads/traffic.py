"""Bytes that one call of each op must move at least: every number it has to look at or write, once. Caches may save some of them.

Letters as everywhere; `rows` are those that a search looks at, `item` the bytes of a number of the memory, `entries` K_L. For ops that are
undone or have a gradient, `train` adds what that moves.
"""

from collections.abc import Callable
from dataclasses import dataclass

REAL = 4  # bytes of a number that is not a memory row's; float64 is for exact tests, not for measuring
INT32, INT64 = 4, 8


@dataclass(frozen=True)
class Sizes:
    """What the traffic of a call depends on."""

    batch: int
    slots: int
    rows: int
    width: int
    heads: int
    reads: int
    entries: int
    item: int
    train: bool


def copy(s: Sizes) -> int:
    """All N rows read and written."""
    return 2 * s.batch * s.slots * s.width * s.item


def topk_content(s: Sizes) -> int:
    """Each row that is looked at, and its norm."""
    return s.batch * (s.rows * (s.width * s.item + REAL) + s.heads * (s.width * REAL + s.reads * INT64))


def sparse_read(s: Sizes) -> int:
    """K rows a head; for the gradient of the weights again."""
    rows = s.heads * s.reads * (s.width * s.item + INT64 + REAL)
    return s.batch * (rows + s.heads * s.width * REAL) * (2 if s.train else 1)


def sparse_write(s: Sizes) -> int:
    """K + 1 rows a head read, kept and written; undone: the kept ones read, the rows read and written, and kept in turn."""
    row = s.width * s.item + REAL
    return s.batch * s.heads * (s.reads + 1) * row * (3 + (4 if s.train else 0))


def lru_ring(s: Sizes) -> int:
    """A pop and K accesses: each a place in the queue, the row's last one read, written and logged; undone: three of them."""
    return s.batch * (1 + s.reads) * INT32 * (4 + (3 if s.train else 0))


def link_update(s: Sizes) -> int:
    """The columns of L rows of `after` and of the L^2 rows of `before` they name; 2 L rows read, kept and written; undone: swapped."""
    pair = INT32 + REAL
    search = s.entries**2 * INT32 + s.entries**3 * INT32 + 3 * s.entries**2 * REAL
    return s.batch * (search + 2 * s.entries**2 * pair * (3 + (4 if s.train else 0)))


def link_read(s: Sizes) -> int:
    """A row of each matrix for every row read before; columns are returned as int64."""
    return s.batch * 2 * s.heads * s.reads * s.entries * (INT32 + REAL + INT64 + REAL)


def link_steps(s: Sizes) -> int:
    """An update and both reads."""
    return link_update(Sizes(**{**vars(s), "train": False})) + link_read(s)


TRAFFIC: dict[str, Callable[[Sizes], int]] = {
    function.__name__: function
    for function in (copy, topk_content, sparse_read, sparse_write, lru_ring, link_update, link_read, link_steps)
}
