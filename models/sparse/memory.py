"""One sparse memory: its rows, their norms, the LRU ring and the index, changed in place and shared by the states of its passes.

A dense model keeps a memory per time step for backward. A `SparseMemory` exists once: a training pass writes to it step by step, and
backward takes the writes back (`models/sparse/passes.py`). So a state does not own a memory; it names a *position* of the shared one.

The `history` says where the memory stands:

- `position` is a number for the contents the memory holds now. A state remembers the position it belongs to. The model runs a state only
  if both agree; otherwise the state is stale.
- `standing` are the recorded passes whose writes stand, in order: each begins where the one before it ends, and backward takes them back
  from the last to the first. One whose graph is gone can have no backward any more; it is undone when one before it is due, and forgotten
  when it is the first.
- `undone` are passes that backward has taken back, the first to be made again last.

    event                        position           standing       undone
    initial state                0                  none           none
    training pass ends           p -> passes        + the pass     none
    its backward, or rollback()  back to p          - the pass     + the pass
    state.detach() after it      p -> its end       none           - the pass     (the pass is replayed in O(T))
    inference pass ends          p -> passes        none           none           (on top of a standing pass it is recorded too)
    single elements are reset    p -> passes        as inference   none

Backward leaves the memory bit for bit as it was before the pass. `detach` of the state after that pass brings the memory forward again, so
that truncated backpropagation continues from there.

A memory over the first elements of another (`State.first`) shares its rows and its history. Its passes are always recorded, and are
undone when a state of the larger memory is used again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor

from mann_bench.kernels.index import Index
from mann_bench.kernels.reference import LruRing, LshSizes, LshTables, row_norms
from mann_bench.models.sparse.history import PENDING, History, Mark
from mann_bench.models.state import BLOCK, Fill, State, initial_rows

RingLog = list[tuple[Tensor, Tensor]]  # what undoes the changes of a ring

torch.serialization.add_safe_globals([LruRing, LshSizes, LshTables])  # held by saved memories, beside states and indexes


@dataclass
class SparseMemory(State):
    """The rows and all that goes with them; serves one pass at a time."""

    memory: Tensor  # [B, N, W]
    norms: Tensor  # [B, N] cached `row_norms` of the rows
    ring: LruRing  # order of last use
    num_candidates: int  # rows 0..num_candidates-1 were written since reset, of any element; first writes come in row order
    index: Index  # finds the rows nearest to a query; updated after every write, and rolled back with the rows
    counts: tuple[int, ...] | None = None  # [B] candidates of each element, where they differ; num_candidates is the most
    history: History = field(default_factory=History)
    began_full: bool = False  # with random rows, of which no copy is kept
    narrow: bool = False  # whether these are the first elements of a larger memory

    ledger_causes: ClassVar[Mapping[str, str]] = {"memory": "memory", "norms": "memory", "ring": "ring_and_usage", "index": "index"}

    @classmethod
    def create(
        cls, batch: int, slots: int, word_size: int, fill: Fill, seed: int, like: Tensor, storage: torch.dtype, index: Index
    ) -> "SparseMemory":
        """Make a memory of zeros without candidates (`fill="empty"`) or of N random rows that are all candidates (`"full"`).

        Args:
            like: a tensor of the device and dtype of everything but the rows.
            storage: dtype of the rows.
        """
        rows, full = initial_rows(batch, slots, word_size, fill, seed, like.device, storage), fill == "full"
        norms, ring = norms_in_blocks(rows, like.dtype), LruRing(batch, slots, rows.device)
        memory = cls(rows, norms, ring, slots if full else 0, index, began_full=full)
        index.build(memory)
        return memory

    @property
    def rows_an_element(self) -> int:
        """N, rows of each batch element."""
        return self.memory.shape[1]

    def mark(self) -> Mark:
        """Mark where the memory stands now."""
        return Mark(self.history.position, self.num_candidates, self.counts, self.ring.mark())

    def begin(self, *, log: bool, compact: bool) -> None:
        """Prepare for a pass. `log`: the ring keeps what undoes its changes; `compact`: nothing refers to its places: it may move them."""
        self.ring.begin(log=log, compact=compact)

    def end_log(self) -> RingLog:
        """End the pass and return what undoes the ring's changes."""
        return self.ring.end_log()

    def go_back(self, start: Mark, log: RingLog) -> None:
        """Return ring and candidates to where a pass began, once the rows are there."""
        self.ring.undo(start.ring, log)
        self.num_candidates, self.counts = start.num_candidates, start.counts

    def go_forward(self, end: Mark) -> None:
        """Return ring and candidates to where a pass ended, once the rows are there."""
        self.ring.redo(end.ring)
        self.num_candidates, self.counts = end.num_candidates, end.counts

    def gradient_rows(self, count: int) -> Tensor:
        """Make zeros for the gradient of some rows, [count, W]."""
        return self.norms.new_zeros(count, self.memory.shape[2])

    def count_writes(self, steps: int, write_heads: int, each: Sequence[int] | None = None) -> None:
        """Count the rows written first in some steps as candidates; `each` [B]: the steps of each element, where they differ."""
        slots = self.memory.shape[1]
        if self.counts is None and each is None:
            self.num_candidates = min(slots, self.num_candidates + steps * write_heads)
            return
        batch = len(self.memory)
        steps_of = (steps,) * batch if each is None else each
        before = self.each_count()
        self.set_counts([min(slots, count + own * write_heads) for count, own in zip(before, steps_of, strict=True)])

    def each_count(self) -> tuple[int, ...]:
        """The candidates of each element."""
        return (self.num_candidates,) * len(self.memory) if self.counts is None else self.counts

    def set_counts(self, counts: Sequence[int]) -> None:
        """Set the candidates of each element."""
        self.num_candidates = max(counts)
        self.counts = tuple(counts) if min(counts) < self.num_candidates else None

    def narrowed(self, count: int) -> Self:
        """Narrow to the first elements: the same rows, changed in place, and the same history."""
        ring = self.ring.map(lambda tensor: tensor[:count])
        narrow = type(self)(self.memory[:count], self.norms[:count], ring, 0, self.index, history=self.history, narrow=True)
        narrow.began_full = self.began_full
        narrow.set_counts(self.each_count()[:count])
        narrow.index = self.index.mapped(lambda tensor: tensor[:count], narrow)
        return narrow

    def rollback(self) -> None:
        """Undo the passes that stand, from the last to the first, without running their backward, O(T); do nothing if there is none."""
        self.history.rollback()

    def tensors(self) -> list[Tensor]:
        return [self.memory, self.norms, self.ring.last, self.ring.queue, self.ring.head, *self.index.tensors()]

    @property
    def outside_bytes(self) -> int:
        return self.index.outside_bytes(self)

    def detach(self) -> Self:
        """Return the memory itself: autograd never sees it."""
        return self

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Copy to another device; `dtype` applies to the numbers computed with, so that rows stored in a type of their own keep it."""
        computed = self.norms.dtype
        return self.map(lambda tensor: tensor.to(device=device, dtype=dtype if tensor.dtype == computed else None, copy=True))

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Copy the memory, `function` applied to every tensor; RuntimeError while a backward is due."""
        if self.history.backward_is_due:
            raise RuntimeError(f"{PENDING}; then move or slice the state")
        ring, memory = self.ring.map(function), function(self.memory)
        history = self.history.without_passes()
        copy = type(self)(memory, function(self.norms), ring, self.num_candidates, self.index, history=history, began_full=self.began_full)
        if self.counts is not None:
            copy.set_counts(function(torch.tensor(self.counts)).tolist())
        copy.index = self.index.mapped(function, copy)
        return copy

    def __getstate__(self) -> dict[str, object]:
        if self.history.backward_is_due:
            raise RuntimeError(f"{PENDING}; then save or copy the state")
        return {**self.__dict__, "history": self.history.without_passes(), "narrow": False}


def norms_in_blocks(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute `row_norms` of rows [B, N, W] in a type, [B, N], without a copy of all rows in that type."""
    norms = rows.new_empty(rows.shape[:2], dtype=dtype)
    block = max(BLOCK, norms.numel() // 64)
    for part, part_norms in zip(rows.flatten(0, 1).split(block), norms.flatten().split(block), strict=True):
        part_norms.copy_(row_norms(part.to(dtype)))
    return norms
