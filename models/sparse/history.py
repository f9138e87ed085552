"""Where a sparse memory stands: the passes over it in order, and which of them can still be taken back."""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import torch

from mann_bench.kernels.reference.lru_ring import RingMark
from mann_bench.models.modes import in_backward

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
    counts: tuple[int, ...] | None
    ring: RingMark


class Place(Protocol):
    """Where a memory stands: `Mark`, and those of other memories."""

    @property
    def position(self) -> int:
        """The number of its contents."""


@dataclass
class History:
    """Shared by a memory and by those over its first elements (`State.first`).

    Attributes:
        position: a number for the contents that the memory holds now.
        standing: recorded passes whose writes stand, in order.
        undone: passes that backward has taken back, the first to be made again last.
        passes: finished passes. A pass ends at the new position `passes`, so no two contents share a number.
    """

    position: int = 0
    standing: "list[AnyPass]" = field(default_factory=list, repr=False)
    undone: "list[AnyPass]" = field(default_factory=list, repr=False)
    passes: int = 0

    ledger_causes: ClassVar[Mapping[str, str]] = {"standing": "tape", "undone": "tape"}

    def without_passes(self) -> "History":
        """Make one for a copy of the memory as it stands."""
        return History(self.position, passes=self.passes)

    @property
    def backward_is_due(self) -> bool:
        """Whether a backward can still come that takes a pass back."""
        return any(standing.due for standing in self.standing)

    def begin(self, position: int) -> None:
        """Prepare for a pass of a state that stands at `position`; RuntimeError with the remedy if the memory is elsewhere or in use."""
        if self.standing and in_backward() and any(standing.start.position == position for standing in self.standing):
            self.rollback()
            raise RuntimeError(CHECKPOINTED)
        self.go_back_to(position)
        if self.standing:
            self.forget_abandoned()
        self.undone.clear()  # frees their tapes before the next pass makes its own

    def go_back_to(self, position: int) -> None:
        """Undo abandoned passes back to `position`; RuntimeError with the remedy if the memory does not stand there then."""
        if self.standing:
            self.undo_abandoned(position)
        if position != self.position:
            raise RuntimeError(
                f"{PENDING}; for two passes at once make two states. A pass without backward runs under torch.no_grad()"
                if self.backward_is_due
                else STALE
            )

    def end(self, recorded: "AnyPass | None") -> int:
        """Move to the position after a pass and return it; `recorded` is the pass if it can be taken back."""
        self.passes += 1
        self.position = self.passes
        if recorded is not None:
            self.standing.append(recorded)
        return self.position

    def undo_abandoned(self, position: int) -> None:
        """Undo the last passes back to `position`, if no backward of any of them can come."""
        after = next((number for number, standing in enumerate(self.standing) if standing.start.position == position), None)
        if after is not None and not any(standing.due for standing in self.standing[after:]):
            while self.position != position:
                self.standing[-1].rollback()

    def forget_last(self) -> None:
        """Undo the last pass and drop its tape: it cannot be made again."""
        self.standing[-1].rollback()
        self.undone.clear()

    def forget_abandoned(self) -> None:
        """Drop the first passes, without a backward to come: the memory never goes back to where they begin."""
        kept = (number for number, standing in enumerate(self.standing) if standing.due or standing.narrow)
        del self.standing[: next(kept, len(self.standing))]

    def rollback(self) -> None:
        """Undo the passes that stand, from the last to the first, without running their backward, O(T); do nothing if there is none."""
        while self.standing:
            self.standing[-1].rollback()

    def left(self, undone: "AnyPass") -> None:
        """Note that the last pass that stands has been taken back."""
        self.standing.pop()
        self.undone.append(undone)
        self.position = undone.start.position

    def replay_to(self, position: int) -> None:
        """Bring a memory that backward has rolled back forward again, if undone passes lead from here to `position`, O(T)."""
        if position == self.position or all(undone.end.position != position for undone in self.undone):
            return
        while self.position != position:
            replayed = self.undone.pop()
            replayed.replay()
            self.position = replayed.end.position
            self.standing.append(replayed)
        self.forget_abandoned()


class InPlace(Protocol):
    """What a pass needs of the memory that it changes in place: `SparseMemory`, `Bank`. Marks and logs are the memory's own."""

    history: History
    narrow: bool

    def mark(self) -> Any:
        """Mark where the memory stands now."""

    def begin(self, *, log: bool, compact: bool) -> None:
        """Prepare for a pass, which begins a log of what is not rows."""

    def end_log(self) -> Any:
        """End the pass and return its log."""

    def go_back(self, start: Any, log: Any) -> None:
        """Return all that is not rows to the start of a pass."""

    def go_forward(self, end: Any) -> None:
        """Return all that is not rows to the end of a pass."""


M = TypeVar("M", bound=InPlace)


class RecordedPass(ABC, Generic[M]):
    """Base of what a history keeps: passes (`passes.Pass`) and resets of elements (`reset.Reset`).

    A memory holds its history, and that the passes. So a pass refers to its memory weakly, else a memory that nobody uses any more would
    wait for Python's garbage collector, which does not know how large it is. Who uses a memory holds it: a state, and the graph of a pass
    (`passes.Graph`).

    Attributes:
        narrow: whether it went over the first elements of a larger memory, which is to find them as they were. Such a pass holds the
            memory of the first elements, as the larger one and its history may be used after that.
        start: where the memory stood before it.
        end: where it stood after it.
    """

    start: Place
    end: Place

    def __init__(self, memory: M) -> None:
        self.narrow = memory.narrow
        self.find_memory: Callable[[], M | None] = (lambda: memory) if memory.narrow else weakref.ref(memory)

    @property
    def memory(self) -> M:
        """The memory."""
        memory = self.find_memory()
        assert memory is not None, "somebody uses a memory that nobody holds"
        return memory

    @property
    def due(self) -> bool:
        """Whether its backward can still run and has not."""
        return False

    @abstractmethod
    def rollback(self) -> None:
        """Undo the writes that still stand; the pass is the last that stands."""

    @abstractmethod
    def replay(self) -> None:
        """After a complete rollback, make all writes again."""


AnyPass = RecordedPass[Any]

torch.serialization.add_safe_globals([History])  # held by saved memories
