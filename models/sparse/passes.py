"""Passes over a sparse memory, and how backward rolls them back: SAM trains with O(1) bytes a step (Rae et al. 2016, section 3.4).

Autograd sees only the rows that are read, and the weights and values that are written (`models/sparse/access.py`). A scalar `token` ties
reads and writes into one chain, so that backward visits them in reverse order. The backward of each write restores the rows it overwrote:
the memory then stands where the gradient being computed needs it. After backward the memory is bit for bit as it was before the pass,
unless rows are kept rounded (`kernels/reference/snapshot.py`).

A pass may begin where one stands whose backward has not run. The passes then form a chain: backward takes them back from the last to the
first, and each hands the gradient of the memory on to the one before, unless the state between was detached. So a chain has the
gradients of one pass over the joined sequence.

V: write heads. S: rows that a write head adds to. U: distinct rows that a chain touches.
"""

import weakref
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mann_bench.kernels.index import Reversible
from mann_bench.models.modes import current_backward, in_backward
from mann_bench.models.sparse.history import AnyPass, InPlace, M, RecordedPass
from mann_bench.models.sparse.memory import SparseMemory
from mann_bench.models.sparse.reset import ElementsReset
from mann_bench.models.sparse.written import Write

G = TypeVar("G")

MOVED_ON = (
    "this backward belongs to a pass that the memory has left: backward ran already, or the pass was rolled back. Run the model again, and "
    "its backward once, before anything else uses the memory"
)
OUT_OF_ORDER = (
    "backward out of order: a later pass over this memory has not run its backward, and passes are taken back from the last to the first. "
    "Add the losses up and call backward once, run the later backward first, or undo all passes with state.rollback()"
)
MIXED = (
    "the pass before ran on other kernels (native or torch), and no gradient of the memory can flow between the two: give the model "
    "kernels='torch', run the backward of the pass before first, or cut the history with state.detach()"
)


class Graph:
    """Held by the graph of a pass alone: when it is gone, no backward of the pass can come. It holds the memory that backward needs."""

    __slots__ = ("__weakref__", "memory")

    def __init__(self, memory: InPlace) -> None:
        self.memory = memory


class Pass(RecordedPass[M], Generic[M, G]):
    """A forward pass over a memory: where it starts and ends, and how it is undone and replayed. M: the memory. G: its gradient.

    Args:
        position: where the state stands that the pass starts from (`SparseMemory.begin`).
        recorded: whether backward may follow. A pass on top of one that stands, or over the first elements of a larger memory, is recorded
            anyway, so that it can be taken back.
        attached: whether the state has the history of the pass before, so that gradients flow into it.
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {}  # all of a pass counts as its memory declares: tape
    logs_ring = True  # whether the ring logs what undoes it; False where the pass does so itself

    def __init__(self, memory: M, position: int, *, recorded: bool, attached: bool) -> None:
        super().__init__(memory)
        memory.history.begin(position)
        standing = memory.history.standing
        self.recorded = recorded or bool(standing) or memory.narrow
        self.before: Self | None = None  # the pass before, which receives the gradient of the memory
        self.reset: list[int] = []  # elements that do not, as they were reset between the two
        if recorded and attached:
            self.before = cast("Self | None", self.find_before(standing))
        memory.begin(log=self.logs_ring and self.recorded, compact=not standing and not memory.narrow)
        self.start = self.end = memory.mark()
        self.log: Any = []
        self.graph: weakref.ref[Graph] | None = None
        self.finished = False  # whether its backward has run, or it was rolled back instead
        self.received: tuple[int, G] | None = None  # of the pass after it: the backward that runs, and the gradient of the memory
        if recorded and in_backward():  # a function is recomputed there, perhaps only to what is in front of this pass
            self.roll_back_after_backward()

    def find_before(self, standing: Sequence[AnyPass]) -> "Self | None":
        """The last pass that stands, if there is one; RuntimeError if it ran on other kernels."""
        for before in reversed(standing):
            if isinstance(before, ElementsReset):
                self.reset += before.elements
            elif isinstance(before, type(self)):
                return before
            else:
                raise RuntimeError(MIXED)
        return None

    def join(self) -> Graph:
        """Return what the graph of this pass is to hold."""
        graph = Graph(self.memory)
        self.graph = weakref.ref(graph)
        return graph

    @property
    def due(self) -> bool:
        return not self.finished and self.graph is not None and self.graph() is not None

    def close(self) -> int:
        """End the forward pass; returns the position of the state after it."""
        self.log = self.memory.end_log()
        self.memory.history.end(self if self.recorded else None)
        self.end = self.memory.mark()
        position: int = self.end.position
        return position

    @abstractmethod
    def cut(self, gradient: G) -> None:
        """Set the gradient of the memory of the elements `reset` to zero."""

    def roll_back_after_backward(self, _: Tensor | None = None) -> None:
        """Have the pass rolled back when the running backward ends, unless its gradients have done so. Serves as a hook of a tensor."""
        torch.autograd.Variable._execution_engine.queue_callback(self._roll_back_if_last)

    def _roll_back_if_last(self) -> None:
        if not self.finished and self.find_memory() is not None and self.is_last():  # where nobody uses the memory, nothing is to be undone
            self.rollback()

    @contextmanager
    def whole_or_undone(self) -> Iterator[None]:
        """Close and undo the pass if what runs inside fails: half a pass would leave the memory between two states."""
        try:
            yield
        except BaseException:
            self.close()
            if self.recorded:
                self.rollback()
            raise

    def roll_back_with(self, outputs: Tensor) -> None:
        """Have any backward from the outputs roll the pass back: a gradient of the output layer alone reaches nothing else of it."""
        if self.recorded and outputs.requires_grad:
            outputs.register_hook(self.roll_back_after_backward)

    def is_last(self) -> bool:
        """Whether this pass is the last that stands, once those after it without a backward to come are undone."""
        standing = self.memory.history.standing
        if standing and standing[-1] is not self:
            self.memory.history.undo_abandoned(self.end.position)
        return bool(standing) and standing[-1] is self

    def replay(self) -> None:
        """After a complete rollback, bring the memory forward again to the end of the pass, O(T)."""
        self.memory.go_forward(self.end)

    def require_last(self) -> None:
        """RuntimeError unless this is the pass whose backward is due."""
        if self.finished or not self.is_last():
            raise RuntimeError(OUT_OF_ORDER if self in self.memory.history.standing and not self.finished else MOVED_ON)

    def gradient_received(self) -> G | None:
        """The gradient of the memory from the pass after this one, if the backward that runs has come through it."""
        if self.received is None or self.received[0] != current_backward():
            return None
        return self.received[1]

    def chain(self) -> "list[Self]":
        """This pass and those before it into which gradients flow."""
        passes: list[Self] = [self]
        while (before := passes[-1].before) is not None:
            passes.append(before)
        return passes

    def finish_backward(self, gradient: G | None) -> None:
        """Hand the gradient of the memory at the start of this pass on to the pass before, and note that the memory is back there."""
        if self.before is not None and gradient is not None:
            if self.reset:
                self.cut(gradient)
            self.before.received = current_backward(), gradient
        self.finish_rollback()

    def finish_rollback(self) -> None:
        """Return all that is not rows to the start, as ring, candidate count and position; called when the rows are back there."""
        self.memory.go_back(self.start, self.log)
        self.memory.history.left(self)
        self.finished, self.before, self.received = True, None, None


class RowMemory(InPlace, Protocol):
    """A memory whose rows are numbered through all its elements."""

    @property
    def rows_an_element(self) -> int:
        """Rows of each batch element."""

    def gradient_rows(self, count: int) -> Tensor:
        """Make zeros for the gradient of some rows, [count, W]."""


class TouchedRows(NamedTuple):
    """The gradient of a memory: of the rows that a chain touches, as indices into the flattened [B * N]."""

    rows: Tensor  # [U] int64, ascending
    gradient: Tensor  # [U, W]


RowM = TypeVar("RowM", bound=RowMemory)


class RowPass(Pass[RowM, TouchedRows]):
    """A pass run step by step in torch, which notes the rows accessed.

    Backward needs the gradient of the memory only for touched rows. `touched` holds one row for each of them; it is made at the first call
    of backward of the last pass of a chain, when all accesses are known.
    """

    def __init__(self, memory: RowM, position: int, *, recorded: bool, attached: bool) -> None:
        super().__init__(memory, position, recorded=recorded, attached=attached)
        self.accessed: list[Tensor] = []  # rows of every write and read, as indices into the flattened memory, in order
        self.touched: TouchedRows | None = None
        self.grad_rows: list[Tensor] = []  # for each entry of `accessed`, its rows of the gradient
        self.token = memory.gradient_rows(1).new_zeros((), requires_grad=True)
        self.idle: Tensor | None = None  # [B] bool elements that have ended before the step that runs, and change nothing

    def gradient_of(self, access: int) -> tuple[Tensor, Tensor]:
        """Return the gradient of the memory [U, W] and the rows of it that belong to one access; only while backward is due."""
        self.require_last()
        if self.touched is None:
            self.touched, grad_rows = self.touched_rows()
            by_access = grad_rows.split([rows.numel() for rows in self.accessed])
            self.grad_rows = [part.view(rows.shape) for part, rows in zip(by_access, self.accessed, strict=True)]
        return self.touched.gradient, self.grad_rows[access]

    def touched_rows(self) -> tuple[TouchedRows, Tensor]:
        """Take over the gradient of the memory from the pass after this one, or begin with zeros; also the place of each access in it."""
        own = torch.cat([rows.flatten() for rows in self.accessed])
        if (received := self.gradient_received()) is not None:
            return received, torch.searchsorted(received.rows, own)
        chain = self.chain()
        rows, places = torch.cat([own, *(rows.flatten() for earlier in chain[1:] for rows in earlier.accessed)]).unique(return_inverse=True)
        return TouchedRows(rows, self.memory.gradient_rows(len(rows))), places[: len(own)]

    def cut(self, gradient: TouchedRows) -> None:
        element = gradient.rows // self.memory.rows_an_element
        gradient.gradient[torch.isin(element, torch.tensor(self.reset, device=element.device))] = 0

    def finish_rollback(self) -> None:
        super().finish_rollback()
        self.touched, self.grad_rows, self.accessed = None, [], []


class StepwisePass(RowPass[SparseMemory]):
    """A pass over a sparse memory; its tape are the writes and the rows accessed.

    Args:
        memory: the memory.
        position: where the state stands that the pass starts from.
        recorded: as of `Pass`.
        attached: as of `Pass`.
        snapshot: how rows overwritten are kept, one of `snapshot.KINDS`.
    """

    def __init__(self, memory: SparseMemory, position: int, *, recorded: bool, attached: bool, snapshot: str = "exact") -> None:
        super().__init__(memory, position, recorded=recorded, attached=attached)
        self.snapshot = snapshot
        self.writes: list[Write] = []
        self.num_undone = 0  # writes rolled back so far
        self.side_changes: list[Reversible] = []  # other changes in place, in order: of the links and of the index

    def masked(self, interface: Tensor) -> Tensor:
        """The interface [B, P], of elements that have ended zeros: what is computed of those is finite, and carries no gradient."""
        return interface if self.idle is None else interface.masked_fill(self.idle.unsqueeze(1), 0)

    def record_access(self, rows: Tensor) -> int:
        """Note an access to rows int64 [B, ...]; returns its number."""
        element = torch.arange(rows.shape[0], device=rows.device).view(-1, *[1] * (rows.dim() - 1))
        self.accessed.append(element * self.memory.memory.shape[1] + rows)
        return len(self.accessed) - 1

    def undo_write(self) -> None:
        """Roll back the last write that still stands."""
        self.writes[len(self.writes) - 1 - self.num_undone].exchange(self.memory)
        self.num_undone += 1

    def rollback(self) -> None:
        while self.num_undone < len(self.writes):
            self.undo_write()
        self.finish_rollback()

    def finish_rollback(self) -> None:
        super().finish_rollback()
        for change in reversed(self.side_changes):
            change.toggle()

    def replay(self) -> None:
        for write in self.writes:
            write.exchange(self.memory)
        for change in self.side_changes:
            change.toggle()
        super().replay()
        self.num_undone = 0


class Chained(Protocol):
    """A pass whose steps a token ties into a chain."""

    recorded: bool
    token: Tensor

    def join(self) -> Graph: ...


def attach_outputs(current: Chained, *outputs: Tensor) -> tuple[Tensor, ...]:
    """Make the outputs depend on the whole chain, so that a gradient of any of them rolls every write back."""
    if not current.recorded:
        return outputs
    token, current.token = current.token, current.token.detach()  # an attached token would refer back to this pass: a reference cycle
    attached: tuple[Tensor, ...] = _AttachOutputs.apply(token, current.join(), *outputs)
    return attached


class _AttachOutputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, token, graph, *outputs):  # type: ignore[no-untyped-def]
        ctx.graph = graph
        return tuple(output.view_as(output) for output in outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        return grads[0].new_zeros(()), None, *grads
