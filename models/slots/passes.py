"""Passes over a bank of slots, in torch and native, and how they are taken back (`models/sparse/passes.py`)."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from mann_bench.kernels.reference.snapshot import Snapshot
from mann_bench.kernels.sequence.slot_steps import BankGradient, BankSteps, SlotWeights
from mann_bench.models.slots.bank import OLD_START, Bank
from mann_bench.models.sparse.passes import Pass, RowPass, TouchedRows

G = TypeVar("G")


class BankWrite(Protocol):
    """Writes to a bank that can be taken back and made again, bit for bit."""

    def undo(self) -> None: ...
    def redo(self) -> None: ...


class RowsWritten:
    """One step's write, to be noted before the rows change: what fails from then on can be rolled back.

    Args:
        flat: the rows of the bank, [B R N, W].
        rows: int64 [n], distinct.
        overwritten: [n, W], what they hold.
        snapshot: how that is kept, one of `snapshot.KINDS`.
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {}  # counts as the pass that holds it

    def __init__(self, flat: Tensor, rows: Tensor, overwritten: Tensor, snapshot: str) -> None:
        self.flat, self.rows, self.snapshot = flat, rows, snapshot
        self.kept = Snapshot.of(overwritten, snapshot)  # once undone, what was written

    def undo(self) -> None:
        """Exchange what was overwritten with what the rows hold now."""
        content = self.kept.restored(self.flat.dtype)
        self.kept = Snapshot.of(self.flat[self.rows], self.snapshot)
        self.flat.index_copy_(0, self.rows, content)

    redo = undo


class BankPass(Pass[Bank, G]):
    """Base of passes over a bank: writes in order, which backward takes back from the last to the first.

    Args:
        position: where the state stands that the pass starts from.
        recorded: as of `Pass`.
        attached: as of `Pass`; from its start on a bank hands its gradient to what it was copied from.
        snapshot: how rows overwritten are kept, one of `snapshot.KINDS`.
    """

    token: Tensor
    writes: Sequence[BankWrite]  # in order

    def __init__(self, memory: Bank, position: int, *, recorded: bool, attached: bool, snapshot: str = "exact") -> None:
        self.snapshot = snapshot
        self.origin = memory.start if recorded and attached else None
        if self.origin is not None and self.origin.rows._version != self.origin.version:
            raise RuntimeError(OLD_START)
        super().__init__(memory, position, recorded=recorded, attached=attached)
        self.num_undone = 0  # of the writes

    @abstractmethod
    def rows_of(self, gradient: G) -> TouchedRows:
        """The rows that have a gradient."""

    def require_next(self, number: int) -> None:
        """RuntimeError unless this write is the last that stands."""
        if self.num_undone != len(self.writes) - 1 - number:
            raise RuntimeError("backward out of order: the steps of one pass must be run backward together, from its last to its first")

    def undone(self, gradient: G | None) -> None:
        """Note that the last write that stood has been undone by its backward; after the first write the pass is finished."""
        self.num_undone += 1
        if self.num_undone == len(self.writes):
            self.finish_backward(gradient)

    def finish_backward(self, gradient: G | None) -> None:
        """As of `Pass`; the first pass hands the gradient to the learned start, a reset that of its elements, which began there anew."""
        if self.origin is not None and gradient is not None:
            if self.before is None:
                self.origin.receive(self.rows_of(gradient))
            elif self.reset:
                rows, values = self.rows_of(gradient)
                began = torch.isin(rows // self.memory.rows_an_element, torch.tensor(self.reset, device=rows.device))
                self.origin.receive(TouchedRows(rows[began], values[began]))
        super().finish_backward(gradient)

    def rollback(self) -> None:
        while self.num_undone < len(self.writes):
            self.num_undone += 1
            self.writes[-self.num_undone].undo()
        self.finish_rollback()

    def replay(self) -> None:
        for write in self.writes:
            write.redo()
        super().replay()
        self.num_undone = 0


class StepwiseBankPass(BankPass[TouchedRows], RowPass[Bank]):
    """A pass run step by step in torch; its tape are the rows overwritten, and the numbers of those written and read."""

    def __init__(self, memory: Bank, position: int, *, recorded: bool, attached: bool, snapshot: str = "exact") -> None:
        super().__init__(memory, position, recorded=recorded, attached=attached, snapshot=snapshot)
        self.writes: list[RowsWritten] = []

    def rows_of(self, gradient: TouchedRows) -> TouchedRows:
        return gradient


class NativeBankPass(BankPass[BankGradient]):
    """A pass made of native calls, each of some steps or of all."""

    def __init__(self, memory: Bank, position: int, *, recorded: bool, attached: bool, snapshot: str = "exact") -> None:
        super().__init__(memory, position, recorded=recorded, attached=attached, snapshot=snapshot)
        self.writes: list[BankSteps] = []
        self.token = memory.memory.new_zeros((), requires_grad=True)
        self.idle: Tensor | None = None  # [B] bool elements that have ended before the step that runs, and change nothing
        self.of_bank: BankGradient | None = None  # while its backward runs; so is the next
        self.of_weights: SlotWeights | None = None

    def gradient(self) -> BankGradient | None:
        """The gradient of the bank after the calls that stand; None: nothing but one call asks for it. Only while backward is due."""
        self.require_last()
        if self.num_undone == 0:
            self.of_bank = self.gradient_received()
            if self.of_bank is None and (len(self.writes) > 1 or self.before is not None or self.origin is not None):
                self.of_bank = BankGradient([call for each in self.chain() for call in reversed(each.writes)])
        return self.of_bank

    def rows_of(self, gradient: BankGradient) -> TouchedRows:
        return TouchedRows(*gradient.of_rows(self.memory.memory.shape[2]))

    def cut(self, gradient: BankGradient) -> None:
        gradient.cut(self.reset)

    def finish_rollback(self) -> None:
        super().finish_rollback()
        self.of_bank = self.of_weights = None
