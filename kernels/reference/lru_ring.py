"""Order of last access in O(1): the paper's circular list (Rae et al. 2016, A.3) kept as a lazy queue.

An access appends the row to a queue and stores the queue position as the row's last one. The least recently used row is the first queue
entry whose position is still the last of its row. Earlier entries of a row are stale and are skipped. The order is that of the linked list.
An access is one append, and undoing a pass is a truncation.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

LARGEST = 2**31 - 1  # rows and positions are int32
_WINDOW = 16  # queue entries examined at once in the search for one that is not stale
_SLACK = 1024  # a queue is compacted when it is longer than 2N and this


@dataclass
class RingMark:
    """A point in the history of the ring; with the undo log, enough to return there."""

    head: Tensor  # [B] next queue position to examine
    tail: int  # queue positions used, the same for the whole batch


@dataclass(init=False, eq=False)
class LruRing:
    """Least recently used order of `rows` rows for each of `batch` elements; starts as 0, 1, ..., N-1.

    Queue positions `0..N-1` hold that start order and are not stored: position p < N holds row p until compaction.
    """

    rows: int  # N
    last: Tensor  # [B, N] int32 last queue position of each row
    queue: Tensor  # [B, capacity] int32 rows appended since the start, -1: no access
    start: Tensor | None  # [B, N] int32 start order if it is not 0..N-1
    head: Tensor  # [B] int64 next queue position to examine
    tail: int  # queue positions used, those of the start order included
    moved: Tensor | None = None  # [B] bool whether `start` of an element is not 0..N-1; None: of none

    def __init__(self, batch: int, rows: int, device: torch.device | str | None = None) -> None:
        """Start in the order of the rows; ValueError for more than 715 million of them."""
        most = (LARGEST - _SLACK) // 3
        if rows > most:
            raise ValueError(f"slots: expected at most {most} (the order of last access has int32 positions up to 3 N), got {rows}")
        self.rows = rows
        self.last = torch.arange(rows, dtype=torch.int32, device=device).repeat(batch, 1)
        self.queue = torch.empty(batch, 0, dtype=torch.int32, device=device)
        self.start = None
        self.head = torch.zeros(batch, dtype=torch.int64, device=device)
        self.tail = rows
        self._undo: list[tuple[Tensor, Tensor]] | None = None  # rows and their old `last`, one entry an append; None: no log

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Copy the ring, `function` applied to every tensor."""
        ring = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(ring, name, function(value))
        return ring

    def pop(self, idle: Tensor | None = None) -> Tensor:
        """Take the least recently used row of each batch element, int64 [B]; it becomes the most recently used one.

        Args:
            idle: bool [B], elements that take none: their answer is -1.
        """
        window = torch.arange(_WINDOW, device=self.head.device)
        while True:
            positions = self.head[:, None] + window  # [B, window]
            rows = self._row_at(positions)
            valid = (rows >= 0) & (self.last.gather(1, rows.clamp_min(0)) == positions)
            has_valid, offset = valid.max(dim=1)
            if idle is not None:
                has_valid = has_valid | idle
            if bool(has_valid.all()):
                break
            self.head = self.head + torch.where(has_valid, 0, _WINDOW)
        row = rows.gather(1, offset[:, None])  # [B, 1]
        head = self.head + offset + 1
        if idle is not None:
            row, head = row.masked_fill(idle[:, None], -1), torch.where(idle, self.head, head)
        self.head = head
        self._append(row)
        return row[:, 0]

    def touch(self, rows: Tensor, mask: Tensor) -> None:
        """Access rows int64 [B, m] from left to right, those where mask [B, m] holds."""
        self._append(torch.where(mask, rows, -1))

    def order(self) -> Tensor:
        """List all rows from least to most recently used, int64 [B, N]; O(N log N), for tests and compaction."""
        return self.last.argsort(dim=1)

    def begin(self, *, log: bool, compact: bool = True) -> RingMark:
        """Start a pass; `log` records what undoes it. A queue longer than 2N is compacted, so that an access is O(1) amortized.

        Args:
            compact: whether it may be: not while a pass stands that may be undone, whose log has positions of the queue as it is.
        """
        if compact and self.tail > 3 * self.rows + _SLACK:
            self.start = self.order().int()
            self.last = self.start.long().argsort(dim=1).int()
            self.head, self.tail = torch.zeros_like(self.head), self.rows
            self.moved = torch.ones_like(self.head, dtype=torch.bool)
        self._undo = [] if log else None
        return RingMark(self.head, self.tail)

    def end_log(self) -> list[tuple[Tensor, Tensor]]:
        """Stop logging and return the log, with which `undo` takes back everything since `begin`."""
        log, self._undo = self._undo or [], None
        return log

    def undo(self, mark: RingMark, log: list[tuple[Tensor, Tensor]]) -> None:
        """Return to `mark`; O(accesses since then)."""
        for rows, old_last in reversed(log):
            self.last.scatter_(1, rows, old_last)
        self.head, self.tail = mark.head, mark.tail

    def redo(self, end: RingMark) -> None:
        """Redo an undone pass, of which `end` is the mark after it."""
        begin, self.tail = self.tail, end.tail
        self.head = end.head
        self._remember(self.queue[:, begin - self.rows : end.tail - self.rows].long(), begin)

    def reserve(self, appends: int) -> None:
        """Grow the queue for so many more appends, for kernels that write to it directly; ValueError if a pass makes too many."""
        if self.tail + appends > LARGEST:
            raise ValueError(f"expected a pass of at most {LARGEST - self.tail} accesses to rows, got {appends}; run fewer steps at once")
        needed = self.tail + appends - self.rows
        if needed > self.queue.shape[1]:
            grown = self.queue.new_empty(self.queue.shape[0], max(1024, 2 * needed))
            grown[:, : self.queue.shape[1]] = self.queue
            self.queue = grown

    def first_places(self, elements: list[int], counts: list[int]) -> list[tuple[Tensor, tuple[Tensor, ...], Tensor]]:
        """Say what to put where so that some elements have the order 0..N-1 again, once their heads are 0: tensor, places, content.

        Rows from `counts` on have not been accessed. O(rows accessed), and O(N) for an element whose queue was compacted since its start,
        which had more accesses than that.
        """
        device = self.head.device
        moved = [False] * len(elements) if self.moved is None else self.moved[elements].tolist()
        counts = [self.rows if at else count for at, count in zip(moved, counts, strict=True)]
        row = torch.cat([torch.arange(count, dtype=torch.int32, device=device) for count in counts])
        element = torch.tensor(elements, device=device).repeat_interleave(torch.tensor(counts, device=device))
        changes: list[tuple[Tensor, tuple[Tensor, ...], Tensor]] = [(self.last, (element, row.long()), row)]
        if any(moved) and self.start is not None and self.moved is not None:
            which = torch.tensor([number for number, at in zip(elements, moved, strict=True) if at], device=device)
            order = torch.arange(self.rows, dtype=torch.int32, device=device).expand(len(which), -1)
            changes += [(self.start, (which,), order), (self.moved, (which,), torch.zeros_like(which, dtype=torch.bool))]
        return changes

    def mark(self) -> RingMark:
        """Mark the present point."""
        return RingMark(self.head, self.tail)

    def _row_at(self, positions: Tensor) -> Tensor:
        appended = torch.nn.functional.pad(self.queue, (0, 1), value=-1) if self.queue.shape[1] == 0 else self.queue
        later = appended.gather(1, (positions - self.rows).clamp(0, appended.shape[1] - 1)).long()
        early = positions if self.start is None else self.start.gather(1, positions.clamp_max(self.rows - 1)).long()
        return torch.where(positions < self.rows, early, torch.where(positions < self.tail, later, -1))

    def _append(self, rows: Tensor) -> None:
        self.reserve(rows.shape[1])
        begin, self.tail = self.tail, self.tail + rows.shape[1]
        self.queue[:, begin - self.rows : self.tail - self.rows] = rows
        if self._undo is not None:
            accessed = rows.clamp_min(0)
            self._undo.append((accessed, self.last.gather(1, accessed)))
        self._remember(rows, begin)

    def _remember(self, rows: Tensor, begin: int) -> None:
        positions = torch.arange(begin, begin + rows.shape[1], dtype=torch.int32, device=rows.device).expand_as(rows)
        # amax: of a row accessed twice, the later position
        self.last.scatter_reduce_(1, rows.clamp_min(0), torch.where(rows >= 0, positions, -1), "amax")
