"""One bank of slots: rows that are changed in place and shared by the states of its passes, as a `SparseMemory` is. It has no index, no
norms and no order of use: its rows are found by keys that do not depend on what they hold.

`History` (models/sparse/history.py) says where a bank stands and which passes can be taken back.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mann_bench.models.modes import current_backward
from mann_bench.models.sparse.history import PENDING, History
from mann_bench.models.sparse.passes import TouchedRows
from mann_bench.models.sparse.reset import ElementsReset
from mann_bench.models.state import BLOCK, Fill, State, initial_rows

OLD_START = (
    "the learned start has changed since this state was made from it, as by a step of the optimizer: make a new state with initial_state, "
    "or cut the history with state.detach()"
)


class BankMark(NamedTuple):
    """Where a bank stands, apart from its rows."""

    position: int


class Start:
    """The learned start that banks were copied from, and the gradients that passes hand back to it.

    Args:
        rows: the parameter, [R, N, W].
        sparse: whether its gradient is a sparse tensor of the rows touched.
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {"rows": "parameters"}

    def __init__(self, rows: Tensor, *, sparse: bool) -> None:
        self.rows, self.sparse, self.version = rows, sparse, rows._version
        self.received: list[tuple[int, TouchedRows]] = []  # which backward, and the gradient of rows of some bank

    def token(self, batch: int) -> Tensor:
        """Make zeros [B] whose gradient goes on to the start."""
        tokens: Tensor = _FromStart.apply(self.rows, self, batch)
        return tokens

    def receive(self, gradient: TouchedRows) -> None:
        """Keep the gradient of a bank at its start for the rest of the backward that runs."""
        self.received.append((current_backward(), gradient))

    def gradient(self) -> Tensor:
        """Add up what the backward that runs has brought: of the shape of the start."""
        heads, slots, width = self.rows.shape
        parts = [gradient for number, gradient in self.received if number == current_backward()]
        self.received.clear()
        rows = torch.cat([self.rows.new_empty(0, dtype=torch.int64), *(part.rows % (heads * slots) for part in parts)])
        values = torch.cat([self.rows.new_empty(0, width), *(part.gradient for part in parts)]).to(self.rows.dtype)
        if not self.sparse:
            return self.rows.new_zeros(heads * slots, width).index_add_(0, rows, values).view_as(self.rows)
        places = torch.stack([rows // slots, rows % slots])
        return torch.sparse_coo_tensor(places, values, self.rows.shape, check_invariants=False).coalesce()


class _FromStart(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, start, batch):  # type: ignore[no-untyped-def]
        ctx.start = start
        return rows.new_zeros(batch)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return ctx.start.gradient(), None, None


@dataclass
class Bank(State):
    """The rows and where they stand; serves one pass at a time.

    Attributes:
        fill: how it began.
        start: the learned start that it was copied from; None if there is none.
        narrow: whether these are the first elements of a larger bank.
    """

    memory: Tensor  # [B, R, N, W]
    fill: Fill = "empty"
    start: Start | None = None
    history: History = field(default_factory=History)
    narrow: bool = False

    ledger_causes: ClassVar[Mapping[str, str]] = {"memory": "memory"}

    @classmethod
    def create(cls, batch: int, heads: int, slots: int, width: int, fill: Fill, seed: int, like: Tensor, start: Start | None) -> "Bank":
        """Make a bank of zeros or of its learned start (`fill="empty"`), or of random rows (`"full"`).

        Args:
            like: a tensor of its device and dtype.
            start: the learned start; None: zeros.
        """
        if fill == "empty" and start is not None:
            rows = start.rows.detach().expand(batch, -1, -1, -1).clone(memory_format=torch.contiguous_format)
            return cls(rows, fill, start)
        rows = initial_rows(batch, heads * slots, width, fill, seed, like.device, like.dtype)
        return cls(rows.view(batch, heads, slots, width), fill)

    @property
    def rows_an_element(self) -> int:
        """R N, rows of each batch element."""
        return self.memory.shape[1] * self.memory.shape[2]

    def flat(self) -> Tensor:
        """The rows of all elements and heads, [B R N, W]: the same storage."""
        return self.memory.view(-1, self.memory.shape[-1])

    def gradient_rows(self, count: int) -> Tensor:
        """Make zeros for the gradient of some rows, [count, W]."""
        return self.memory.new_zeros(count, self.memory.shape[-1])

    def mark(self) -> BankMark:
        """Mark where the bank stands now."""
        return BankMark(self.history.position)

    def begin(self, *, log: bool, compact: bool) -> None:
        """Nothing but rows changes in a pass."""

    def end_log(self) -> None:
        """Nothing but rows has changed."""

    def go_back(self, start: BankMark, log: None) -> None:
        """Nothing but rows has changed."""

    def go_forward(self, end: BankMark) -> None:
        """Nothing but rows has changed."""

    def rollback(self) -> None:
        """Undo the passes that stand, from the last to the first, without running their backward, O(T); do nothing if there is none."""
        self.history.rollback()

    def detach(self) -> Self:
        """Return the bank itself: autograd never sees it."""
        return self

    def narrowed(self, count: int) -> Self:
        """Narrow to the first elements: the same rows, changed in place, and the same history."""
        return dataclasses.replace(self, memory=self.memory[:count], narrow=True)

    def _rebuild(self, map_tensor: Callable[[Tensor], Tensor], map_state: Callable[[State], State]) -> Self:
        if self.history.backward_is_due:
            raise RuntimeError(f"{PENDING}; then move or slice the state")
        rows = map_tensor(self.memory).contiguous()
        return dataclasses.replace(self, memory=rows, history=self.history.without_passes(), narrow=False)

    def __getstate__(self) -> dict[str, object]:
        if self.history.backward_is_due:
            raise RuntimeError(f"{PENDING}; then save or copy the state")
        return {**self.__dict__, "history": self.history.without_passes(), "narrow": False, "start": None}


class BankReset(ElementsReset[Bank]):
    """Makes elements of a bank as `initial_state` does, in place, O(N).

    Args:
        position: where the state stands that has them reset.
        elements: their numbers, distinct.
        fresh: the bank of a new state of as many elements.

    Raises:
        RuntimeError: the bank does not stand at `position` (`History.begin`).
    """

    def __init__(self, bank: Bank, position: int, elements: list[int], fresh: Bank) -> None:
        super().__init__(bank)
        bank.history.begin(position)
        self.elements, self.start = elements, bank.mark()
        recorded = bool(bank.history.standing) or bank.narrow
        self.saved = fresh.memory
        if recorded:
            self.exchange()
        else:
            bank.memory[torch.tensor(elements, device=bank.memory.device)] = fresh.memory
        bank.history.end(self if recorded else None)
        self.end = bank.mark()

    def exchange(self) -> None:
        """Exchange what was overwritten with what is there now, a block at a time."""
        bank = self.memory
        for element, kept in zip(self.elements, self.saved, strict=True):
            for part, other in zip(bank.memory[element].view(-1).split(BLOCK), kept.view(-1).split(BLOCK), strict=True):
                before = part.clone()
                part.copy_(other)
                other.copy_(before)

    def rollback(self) -> None:
        """Take the reset back, bit for bit; it is the last that stands."""
        self.exchange()
        self.memory.history.left(self)

    def replay(self) -> None:
        """Make it again."""
        self.exchange()
