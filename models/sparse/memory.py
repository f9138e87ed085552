"""One sparse memory: its rows, their norms, the LRU ring and the index, changed in place and shared by the states of its passes.

A dense model keeps a memory per time step for backward. A `SparseMemory` exists once: a training pass writes to it step by step, and
backward takes the writes back (`models/sparse/passes.py`). So a state does not own a memory; it names a *position* of the shared one.

The fields `position`, `passes`, `standing` and `undone` say where the memory stands:

- `position` is a number for the contents the memory holds now. A state remembers the position it belongs to. The model runs a state only
  if both agree; otherwise the state is stale.
- `passes` counts finished passes. A pass ends at the new position `passes`, so no two contents share a number.
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

Backward leaves the memory bit for bit as it was before the pass. `detach` of the state after that pass brings the memory forward again, so
that truncated backpropagation continues from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from mann_bench.kernels.index import Index
from mann_bench.kernels.reference import LruRing, LshSizes, LshTables, row_norms
from mann_bench.kernels.reference.lru_ring import RingMark
from mann_bench.models.modes import in_backward
from mann_bench.models.state import BLOCK, Fill, State, initial_rows

torch.serialization.add_safe_globals([LruRing, LshSizes, LshTables])  # held by saved memories, beside states and indexes

PENDING = "this memory has a forward pass whose backward has not run: run it, or undo the pass with state.rollback()"
STALE = (
    "this state is stale: its memory has moved on to a later state (in-place inference, also where it failed half way) or was rolled back. "
    "Use the state that the last call returned, after backward its state.detach(); where there is none, make one with initial_state"
)
CHECKPOINTED = (
    "activation checkpointing (torch.utils.checkpoint) runs this pass again while its own backward is due, which one memory cannot do; it "
    "has been rolled back. Call the model outside of the checkpointed function (a pass saves a few rows a step), or give checkpoint "
    "use_reentrant=True"
)


class Mark(NamedTuple):
    """Where a memory stands, apart from its rows and index."""

    position: int
    num_candidates: int
    ring: RingMark


class RecordedPass(Protocol):
    """What a memory needs of a pass that can be rolled back: `passes.Pass`."""

    start: Mark
    end: Mark

    @property
    def due(self) -> bool:
        """Whether its backward can still run and has not."""

    def rollback(self) -> None:
        """Undo the writes that still stand; the pass is the last that stands."""

    def replay(self) -> None:
        """After a complete rollback, make all writes again."""


@dataclass
class SparseMemory(State):
    """The rows and all that goes with them; serves one pass at a time. The module's docstring explains the last four fields."""

    memory: Tensor  # [B, N, W]
    norms: Tensor  # [B, N] cached `row_norms` of the rows
    ring: LruRing  # order of last use
    num_candidates: int  # rows 0..num_candidates-1 were written since reset; first writes come in row order
    index: Index  # finds the rows nearest to a query; updated after every write, and rolled back with the rows
    position: int = 0
    standing: list[RecordedPass] = field(default_factory=list, repr=False)
    undone: list[RecordedPass] = field(default_factory=list, repr=False)
    passes: int = 0

    ledger_causes: ClassVar[Mapping[str, str]] = {
        "memory": "memory", "norms": "memory", "ring": "ring_and_usage", "index": "index", "standing": "tape", "undone": "tape",
    }  # fmt: skip

    @classmethod
    def create(
        cls, batch: int, slots: int, word_size: int, fill: Fill, seed: int, like: Tensor, storage: torch.dtype, index: Index
    ) -> "SparseMemory":
        """Make a memory of zeros without candidates (`fill="empty"`) or of N random rows that are all candidates (`"full"`).

        Args:
            like: a tensor of the device and dtype of everything but the rows.
            storage: dtype of the rows.
        """
        rows = initial_rows(batch, slots, word_size, fill, seed, like.device, storage)
        memory = cls(rows, norms_in_blocks(rows, like.dtype), LruRing(batch, slots, rows.device), slots if fill == "full" else 0, index)
        index.build(memory)
        return memory

    @property
    def backward_is_due(self) -> bool:
        """Whether a backward can still come that takes a pass back."""
        return any(standing.due for standing in self.standing)

    def begin(self, position: int) -> None:
        """Prepare for a pass of a state that stands at `position`; RuntimeError with the remedy if the memory is elsewhere or in use."""
        if self.standing:
            if in_backward() and any(standing.start.position == position for standing in self.standing):
                self.rollback()
                raise RuntimeError(CHECKPOINTED)
            self.undo_abandoned(position)
        if position != self.position:
            raise RuntimeError(
                f"{PENDING}; for two passes at once make two states. A pass without backward runs under torch.no_grad()"
                if self.backward_is_due
                else STALE
            )
        if self.standing:
            self.forget_abandoned()
        self.undone.clear()  # frees their tapes before the next pass makes its own

    def end(self, recorded: RecordedPass | None) -> Mark:
        """Move to the position after a pass; `recorded` is the pass if it can be taken back."""
        self.passes += 1
        self.position = self.passes
        if recorded is not None:
            self.standing.append(recorded)
        return Mark(self.position, self.num_candidates, self.ring.mark())

    def undo_abandoned(self, position: int) -> None:
        """Undo the last passes back to `position`, if no backward of any of them can come."""
        after = next((number for number, standing in enumerate(self.standing) if standing.start.position == position), None)
        if after is not None and not any(standing.due for standing in self.standing[after:]):
            while self.position != position:
                self.standing[-1].rollback()

    def forget_abandoned(self) -> None:
        """Drop the first passes, without a backward to come: the memory never goes back to where they begin."""
        kept = next((number for number, standing in enumerate(self.standing) if standing.due), len(self.standing))
        del self.standing[:kept]

    def rollback(self) -> None:
        """Undo the passes that stand, from the last to the first, without running their backward, O(T); do nothing if there is none."""
        while self.standing:
            self.standing[-1].rollback()

    def replay_to(self, position: int) -> None:
        """Bring a memory that backward has rolled back forward again, if undone passes lead from here to `position`, O(T)."""
        if position == self.position or all(undone.end.position != position for undone in self.undone):
            return
        while self.position != position:
            replayed = self.undone.pop()
            replayed.replay()
            self.standing.append(replayed)
        self.forget_abandoned()

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
        if self.backward_is_due:
            raise RuntimeError(f"{PENDING}; then move or slice the state")
        ring = self.ring.map(function)
        copy = type(self)(
            function(self.memory), function(self.norms), ring, self.num_candidates, self.index, self.position, passes=self.passes
        )
        copy.index = self.index.mapped(function, copy)
        return copy

    def __getstate__(self) -> dict[str, object]:
        if self.backward_is_due:
            raise RuntimeError(f"{PENDING}; then save or copy the state")
        return {**self.__dict__, "standing": [], "undone": []}


def norms_in_blocks(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute `row_norms` of rows [B, N, W] in a type, [B, N], without a copy of all rows in that type."""
    norms = rows.new_empty(rows.shape[:2], dtype=dtype)
    block = max(BLOCK, norms.numel() // 64)
    for part, part_norms in zip(rows.flatten(0, 1).split(block), norms.flatten().split(block), strict=True):
        part_norms.copy_(row_norms(part.to(dtype)))
    return norms
