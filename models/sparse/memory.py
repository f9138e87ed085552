"""One memory, changed in place and rolled back: what makes SAM train with O(1) bytes a step (Rae et al. 2016, section 3.4).

Autograd sees only the rows that are gathered and the weights and values that are written. `GatherRows` and `WriteRows` are tied into
one chain by a token, so that backward runs them in reverse order; each write's backward restores the rows it had overwritten, so that
the memory always stands where the gradient being computed needs it. A pass leaves the memory, after backward, bit for bit as it was.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mann_bench.kernels.index import Index, Swap
from mann_bench.kernels.reference import LruRing, WriteJournal, erase_survivors, gather_rows, rollback, row_norms, sparse_write
from mann_bench.models.state import Fill, State, initial_rows


@dataclass
class Write:
    """One step's write, as far as backward needs it."""

    journal: WriteJournal
    index: Tensor  # [B, H, S] int64
    erased: Tensor  # [B, H] int64, -1: none
    survives: Tensor  # [B, H, S] bool


P = TypeVar("P", bound="Pass")


class Pass:
    """A forward pass over a memory: where it started and ended, and how to undo it and make it again."""

    def __init__(self, memory: "SparseMemory", log: bool) -> None:
        self.memory, self.log = memory, log
        self.start, self.start_live, self.start_ring = memory.position, memory.live, memory.ring.begin(log=self.logs_ring and log)
        self.end, self.end_live, self.end_ring = memory.position, memory.live, self.start_ring
        self.ring_log: list[tuple[Tensor, Tensor]] = []

    logs_ring = True  # the ring keeps what undoes it; False where the pass does so itself

    def rollback(self) -> None:
        """Undo what still stands of the pass."""
        raise NotImplementedError

    def redo(self) -> None:
        """After a complete rollback, bring the memory forward again to the end of the pass, O(T)."""
        self.memory.ring.redo(self.end_ring)
        self.memory.live, self.memory.position = self.end_live, self.end

    def require_pending(self) -> None:
        """RuntimeError unless this is the pass whose backward is due."""
        if self.memory.pending is not self:
            raise RuntimeError(
                "this backward belongs to a pass that the memory has left: backward ran already, or the pass was rolled back. "
                "Run backward once, before anything else uses the memory"
            )

    def finish(self) -> None:
        """The rows are back at the start: so are ring, live count and position now."""
        self.memory.ring.undo(self.start_ring, self.ring_log)
        self.memory.live, self.memory.position, self.memory.pending = self.start_live, self.start, None


class StepwisePass(Pass):
    """A pass run step by step in torch, its tape the writes and the rows accessed."""

    def __init__(self, memory: "SparseMemory", log: bool) -> None:
        super().__init__(memory, log)
        self.writes: list[Write] = []
        self.accessed: list[Tensor] = []  # rows of every write and read, flat over the batch, in order
        self.also: list[Swap] = []  # what else changes in place, in order: links, an index
        self.undone = 0  # writes rolled back so far
        self.gradient: Tensor | None = None  # [U, W], one line a touched row
        self.lines: list[Tensor] = []  # for each entry of `accessed`, its lines of `gradient`
        self.token = torch.zeros((), device=memory.memory.device, requires_grad=True)

    def record(self, rows: Tensor) -> int:
        """Note an access to rows [B, ...]; returns its place in `accessed`."""
        element = torch.arange(rows.shape[0], device=rows.device).view(-1, *[1] * (rows.dim() - 1))
        self.accessed.append(element * self.memory.memory.shape[1] + rows)
        return len(self.accessed) - 1

    def gradient_of(self, access: int) -> tuple[Tensor, Tensor]:
        """The gradient of the memory over touched rows [U, W] and the lines of one access; made at the first call of backward."""
        self.require_pending()
        if self.gradient is None:
            touched, lines = torch.cat([rows.flatten() for rows in self.accessed]).unique(return_inverse=True)
            self.gradient = self.memory.norms.new_zeros(len(touched), self.memory.memory.shape[2])
            split = lines.split([rows.numel() for rows in self.accessed])
            self.lines = [part.view(rows.shape) for part, rows in zip(split, self.accessed, strict=True)]
        return self.gradient, self.lines[access]

    def undo_write(self) -> None:
        """Roll back the last write that still stands; the journal then holds what was undone."""
        write = self.writes[len(self.writes) - 1 - self.undone]
        write.journal = rollback(self.memory.memory, self.memory.norms, write.journal)
        self.undone += 1
        if self.undone == len(self.writes):
            self.finish()

    def rollback(self) -> None:
        """Undo what still stands of the pass."""
        for _ in range(len(self.writes) - self.undone):
            self.undo_write()

    def finish(self) -> None:
        """Everything but the rows: ring, live count, links, position."""
        super().finish()
        for change in reversed(self.also):
            change.swap()
        self.gradient, self.lines, self.accessed = None, [], []

    def redo(self) -> None:
        """After a complete rollback, bring the memory forward again to the end of the pass, O(T)."""
        for write in self.writes:
            write.journal = rollback(self.memory.memory, self.memory.norms, write.journal)
        for change in self.also:
            change.swap()
        super().redo()
        self.undone = 0


@dataclass
class SparseMemory(State):
    """The rows and all that goes with them. One memory serves one pass at a time and is shared by the states of its passes."""

    memory: Tensor  # [B, N, W]
    norms: Tensor  # [B, N] cached row norms
    ring: LruRing
    live: int  # rows 0..live-1 were written since reset (first writes come in row order); only these are candidates
    index: Index  # finds rows, follows every write, and is rolled back with it
    position: int = 0  # changes with every pass, returns with rollback
    pending: Pass | None = field(default=None, repr=False)  # a recorded pass whose backward has not run
    last: Pass | None = field(default=None, repr=False)  # the last recorded pass, for `stand_at`
    passes: int = 0

    @classmethod
    def create(
        cls, batch: int, slots: int, word_size: int, fill: Fill, seed: int, like: Tensor, storage: torch.dtype, index: Index
    ) -> "SparseMemory":
        """Zeros without candidates, or N random rows that are all candidates; rows stored as `storage`, the rest like `like`."""
        rows = initial_rows(batch, slots, word_size, fill, seed, like.device, storage)
        norms = torch.stack([row_norms(element.to(like.dtype)) for element in rows])
        memory = cls(rows, norms, LruRing(batch, slots, rows.device), slots if fill == "full" else 0, index)
        index.build(memory)
        return memory

    def begin(self, kind: type[P], position: int, *, log: bool) -> P:
        """Start a pass of a state that stands at `position`; RuntimeError with the remedy if the memory is elsewhere or in use."""
        if self.pending is not None:
            raise RuntimeError(
                "this memory has a forward pass whose backward has not run: run it, or undo the pass with state.rollback(), or run "
                "under torch.no_grad(); for two passes at once make two states"
            )
        if position != self.position:
            raise RuntimeError(
                "this state is stale: its memory has moved on to a later state (in-place inference) or was rolled back. Use the state that "
                "the last call returned; after backward continue with state.detach()"
            )
        self.last = None  # can no longer be asked for, and its tape would be held beside the new one
        return kind(self, log)

    def end(self, current: Pass) -> int:
        """Close a pass; returns the position of the state after it."""
        current.ring_log = self.ring.end_log()
        self.passes += 1
        self.position = self.passes
        current.end, current.end_live, current.end_ring = self.position, self.live, self.ring.mark()
        self.last = current if current.log else None
        self.pending = self.last
        return self.position

    def rollback(self) -> None:
        """Undo the last recorded pass without a backward, O(T); nothing happens if it was undone already."""
        if self.pending is not None:
            self.pending.rollback()

    def stand_at(self, position: int) -> None:
        """Bring a memory that backward has rolled back forward again to the end of that pass, O(T)."""
        if self.pending is None and self.last is not None and self.last.end == position and self.last.start == self.position:
            self.last.redo()

    def tensors(self) -> list[Tensor]:
        """Rows, norms, ring and index."""
        return [self.memory, self.norms, self.ring.last, self.ring.queue, self.ring.head, *self.index.tensors()]

    @property
    def outside_bytes(self) -> int:
        """Of the index."""
        return self.index.outside_bytes(self)

    def detach(self) -> Self:
        """The memory itself: autograd never sees it."""
        return self

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A second memory with `function` applied to every tensor; RuntimeError while a backward is due."""
        if self.pending is not None:
            raise RuntimeError(
                "this memory has a forward pass whose backward has not run: run it first, then move, slice or save the state"
            )
        ring = LruRing.__new__(LruRing)
        ring.__dict__.update({name: function(value) if isinstance(value, Tensor) else value for name, value in self.ring.__dict__.items()})
        copy = type(self)(function(self.memory), function(self.norms), ring, self.live, self.index, self.position, passes=self.passes)
        copy.index = self.index.mapped(function, copy)
        return copy

    def __getstate__(self) -> dict[str, Any]:
        if self.pending is not None:
            raise RuntimeError("this memory has a forward pass whose backward has not run: run it first, then save the state")
        return {**self.__dict__, "last": None}


def gather(current: StepwisePass, rows: Tensor) -> Tensor:
    """Rows int64 [B, R, K] of the memory as it stands, [B, R, K, W], with their gradient."""
    if not current.log:
        return gather_rows(current.memory.memory, rows).to(current.memory.norms.dtype)
    values, current.token = _GatherRows.apply(current.token, current, rows, current.record(rows))
    return values


def write(current: StepwisePass, index: Tensor, weights: Tensor, values: Tensor, erased: Tensor) -> None:
    """`sparse_write` on the memory in place; weights [B, H, S] and values [B, H, W] receive gradients."""
    if not current.log:
        sparse_write(current.memory.memory, current.memory.norms, index, weights, values, erased)
    else:
        current.token = _WriteRows.apply(current.token, weights, values, current, index, erased)


def tie(current: StepwisePass, *outputs: Tensor) -> tuple[Tensor, ...]:
    """The outputs, each now depending on the whole chain: a gradient of any of them rolls every write back."""
    if not current.log:
        return outputs
    token, current.token = current.token, current.token.detach()  # kept, it would lead back to this pass: a cycle nobody frees
    return _Tie.apply(token, *outputs)


def follow(current: StepwisePass, written: Tensor) -> None:
    """Bring the index up to rows int64 [B, n] (-1: none) that have been written."""
    change = current.memory.index.update(current.memory, written)
    if change is not None and current.log:
        current.also.append(change)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, token, current, rows, access):  # type: ignore[no-untyped-def]
        ctx.current, ctx.access = current, access
        return gather_rows(current.memory.memory, rows).to(current.memory.norms.dtype), token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_token):  # type: ignore[no-untyped-def]
        gradient, lines = ctx.current.gradient_of(ctx.access)
        gradient.index_add_(0, lines.flatten(), grad.flatten(0, -2))
        return grad_token, None, None, None


class _WriteRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, token, weights, values, current, index, erased):  # type: ignore[no-untyped-def]
        memory = current.memory
        journal = sparse_write(memory.memory, memory.norms, index, weights, values, erased)
        ctx.access = current.record(journal.rows)
        ctx.current, ctx.step = current, len(current.writes)
        current.writes.append(Write(journal, index, erased, erase_survivors(index, erased)))
        ctx.save_for_backward(weights, values)
        return token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_token):  # type: ignore[no-untyped-def]
        weights, values = ctx.saved_tensors
        current, done = ctx.current, ctx.current.writes[ctx.step]
        gradient, lines = current.gradient_of(ctx.access)
        if current.undone != len(current.writes) - 1 - ctx.step:
            raise RuntimeError("backward out of order: the steps of one pass must be run backward together, from its last to its first")
        support = done.index.flatten(1).shape[1]
        rows = gradient[lines[:, :support]].unflatten(1, done.index.shape[1:])  # [B, H, S, W] gradients of the rows written
        rows = torch.where(done.survives.unsqueeze(-1), rows, 0)
        grad_weights = torch.einsum("bhsw,bhw->bhs", rows, values)
        grad_values = torch.einsum("bhs,bhsw->bhw", weights, rows)
        gradient[lines[:, support:][done.erased >= 0]] = 0  # M_t of a wiped row does not depend on M_{t-1}
        current.undo_write()
        return grad_token, grad_weights, grad_values, None, None, None


class _Tie(torch.autograd.Function):
    @staticmethod
    def forward(ctx, token, *outputs):  # type: ignore[no-untyped-def]
        return tuple(output.view_as(output) for output in outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        return grads[0].new_zeros(()), *grads
