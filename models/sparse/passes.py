"""Passes over a sparse memory, and how backward rolls them back: SAM trains with O(1) bytes a step (Rae et al. 2016, section 3.4).

Autograd sees only the rows that are gathered, and the weights and values that are written. A scalar `token` ties `_GatherRows` and
`_WriteRows` into one chain, so that backward visits them in reverse order. The backward of each write restores the rows it overwrote: the
memory then stands where the gradient being computed needs it. After backward the memory is bit for bit as it was before the pass.

V: write heads. S: rows that a write head adds to. U: distinct rows that a pass touches.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mann_bench.kernels.index import Reversible
from mann_bench.kernels.reference import WriteJournal, erase_survivors, gather_rows, rollback, sparse_write
from mann_bench.models.modes import in_backward
from mann_bench.models.sparse.memory import Mark, SparseMemory


class Pass(ABC):
    """A forward pass over a memory: where it starts and ends, and how it is undone and replayed.

    Args:
        position: where the state stands that the pass starts from (`SparseMemory.begin`).
        recorded: whether backward may follow.
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {}  # all of a pass counts as its memory declares: tape
    logs_ring = True  # whether the ring logs what undoes it; False where the pass does so itself

    def __init__(self, memory: SparseMemory, position: int, *, recorded: bool) -> None:
        memory.begin(position)
        self.memory, self.recorded = memory, recorded
        self.start = Mark(position, memory.num_candidates, memory.ring.begin(log=self.logs_ring and recorded))
        self.end = self.start
        self.ring_log: list[tuple[Tensor, Tensor]] = []
        if recorded and in_backward():  # a function is recomputed there, perhaps only to what is in front of this pass
            self.roll_back_after_backward()

    def close(self) -> int:
        """End the forward pass; returns the position of the state after it."""
        self.ring_log = self.memory.ring.end_log()
        self.end = self.memory.end(self if self.recorded else None)
        return self.end.position

    @abstractmethod
    def rollback(self) -> None:
        """Undo the writes that still stand."""

    def roll_back_after_backward(self, _: Tensor | None = None) -> None:
        """Have the pass rolled back when the running backward ends, unless its gradients have done so. Serves as a hook of a tensor."""
        torch.autograd.Variable._execution_engine.queue_callback(self._roll_back_if_pending)

    def _roll_back_if_pending(self) -> None:
        if self.memory.pending is self:
            self.rollback()

    def replay(self) -> None:
        """After a complete rollback, bring the memory forward again to the end of the pass, O(T)."""
        self.memory.ring.redo(self.end.ring)
        self.memory.num_candidates, self.memory.position = self.end.num_candidates, self.end.position

    def require_pending(self) -> None:
        """RuntimeError unless this is the pass whose backward is due."""
        if self.memory.pending is not self:
            raise RuntimeError(
                "this backward belongs to a pass that the memory has left: backward ran already, or the pass was rolled back. "
                "Run the model again, and its backward once, before anything else uses the memory"
            )

    def finish_rollback(self) -> None:
        """Return ring, candidate count and position to the start; called when the rows are back there."""
        self.memory.ring.undo(self.start.ring, self.ring_log)
        self.memory.num_candidates, self.memory.position, self.memory.pending = self.start.num_candidates, self.start.position, None


@dataclass
class Write:
    """One step's write, as far as backward needs it."""

    journal: WriteJournal
    index: Tensor  # [B, V, S] int64
    erased: Tensor  # [B, V] int64, -1: none
    survives: Tensor  # [B, V, S] bool: not erased by a later head of the same step


class StepwisePass(Pass):
    """A pass run step by step in torch; its tape are the writes and the rows accessed.

    Backward needs the gradient of the memory only for touched rows. `memory_grad` [U, W] holds one row for each of them; it is made at the
    first call of backward, when all accesses are known.
    """

    def __init__(self, memory: SparseMemory, position: int, *, recorded: bool) -> None:
        super().__init__(memory, position, recorded=recorded)
        self.writes: list[Write] = []
        self.num_undone = 0  # writes rolled back so far
        self.side_changes: list[Reversible] = []  # other changes in place, in order: of the links and of the index
        self.accessed: list[Tensor] = []  # rows of every write and read, as indices into the flattened [B * N], in order
        self.memory_grad: Tensor | None = None  # [U, W]
        self.grad_rows: list[Tensor] = []  # for each entry of `accessed`, its rows of `memory_grad`
        self.token = memory.norms.new_zeros((), requires_grad=True)

    def record_access(self, rows: Tensor) -> int:
        """Note an access to rows int64 [B, ...]; returns its number."""
        element = torch.arange(rows.shape[0], device=rows.device).view(-1, *[1] * (rows.dim() - 1))
        self.accessed.append(element * self.memory.memory.shape[1] + rows)
        return len(self.accessed) - 1

    def gradient_of(self, access: int) -> tuple[Tensor, Tensor]:
        """Return `memory_grad` [U, W] and the rows of it that belong to one access; only while backward is due."""
        self.require_pending()
        if self.memory_grad is None:
            touched, grad_rows = torch.cat([rows.flatten() for rows in self.accessed]).unique(return_inverse=True)
            self.memory_grad = self.memory.norms.new_zeros(len(touched), self.memory.memory.shape[2])
            by_access = grad_rows.split([rows.numel() for rows in self.accessed])
            self.grad_rows = [part.view(rows.shape) for part, rows in zip(by_access, self.accessed, strict=True)]
        return self.memory_grad, self.grad_rows[access]

    def undo_write(self) -> None:
        """Roll back the last write that still stands; its journal then holds what was undone."""
        write = self.writes[len(self.writes) - 1 - self.num_undone]
        write.journal = rollback(self.memory.memory, self.memory.norms, write.journal)
        self.num_undone += 1

    def rollback(self) -> None:
        while self.num_undone < len(self.writes):
            self.undo_write()
        self.finish_rollback()

    def finish_rollback(self) -> None:
        super().finish_rollback()
        for change in reversed(self.side_changes):
            change.toggle()
        self.memory_grad, self.grad_rows, self.accessed = None, [], []

    def replay(self) -> None:
        for write in self.writes:
            write.journal = rollback(self.memory.memory, self.memory.norms, write.journal)
        for change in self.side_changes:
            change.toggle()
        super().replay()
        self.num_undone = 0


def gather(current: StepwisePass, rows: Tensor) -> Tensor:
    """Copy rows int64 [B, R, K] of the memory as it stands, with their gradient: [B, R, K, W]. -1: none, zeros without a gradient."""
    if not current.recorded:
        return copy_rows(current.memory, rows)
    values: Tensor
    values, current.token = _GatherRows.apply(current.token, current, rows, current.record_access(rows.clamp_min(0)))
    return values


def copy_rows(memory: SparseMemory, rows: Tensor) -> Tensor:
    """Copy rows int64 [B, R, K] -> [B, R, K, W] in the number type of the model; -1: zeros."""
    copies = gather_rows(memory.memory, rows.clamp_min(0)).to(memory.norms.dtype)
    return copies.masked_fill_((rows < 0).unsqueeze(-1), 0)


def write(current: StepwisePass, index: Tensor, weights: Tensor, values: Tensor, erased: Tensor) -> None:
    """Run `sparse_write` on the memory; weights [B, V, S] and values [B, V, W] receive gradients."""
    if not current.recorded:
        sparse_write(current.memory.memory, current.memory.norms, index, weights, values, erased)
    else:
        current.token = _WriteRows.apply(current.token, weights, values, current, index, erased)


def attach_outputs(current: StepwisePass, *outputs: Tensor) -> tuple[Tensor, ...]:
    """Make the outputs depend on the whole chain, so that a gradient of any of them rolls every write back."""
    if not current.recorded:
        return outputs
    token, current.token = current.token, current.token.detach()  # an attached token would refer back to this pass: a reference cycle
    attached: tuple[Tensor, ...] = _AttachOutputs.apply(token, *outputs)
    return attached


def update_index(current: StepwisePass, written: Tensor) -> None:
    """Update the index for rows int64 [B, n] (-1: none) that have been written."""
    change = current.memory.index.update(current.memory, written)
    if change is not None and current.recorded:
        current.side_changes.append(change)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, token, current, rows, access):  # type: ignore[no-untyped-def]
        ctx.current, ctx.access, ctx.absent = current, access, (rows < 0).unsqueeze(-1)
        return copy_rows(current.memory, rows), token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_token):  # type: ignore[no-untyped-def]
        memory_grad, grad_rows = ctx.current.gradient_of(ctx.access)
        memory_grad.index_add_(0, grad_rows.flatten(), grad.masked_fill(ctx.absent, 0).flatten(0, -2))
        return grad_token, None, None, None


class _WriteRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, token, weights, values, current, index, erased):  # type: ignore[no-untyped-def]
        memory, survives = current.memory, erase_survivors(index, erased)
        ctx.current, ctx.step = current, len(current.writes)
        journal = sparse_write(memory.memory, memory.norms, index, weights, values, erased)
        current.writes.append(Write(journal, index, erased, survives))  # at once: what fails from here on can be rolled back
        ctx.access = current.record_access(journal.rows)
        ctx.save_for_backward(weights, values)
        return token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_token):  # type: ignore[no-untyped-def]
        weights, values = ctx.saved_tensors
        current, write = ctx.current, ctx.current.writes[ctx.step]
        memory_grad, grad_rows = current.gradient_of(ctx.access)
        if current.num_undone != len(current.writes) - 1 - ctx.step:
            raise RuntimeError("backward out of order: the steps of one pass must be run backward together, from its last to its first")
        support = write.index.flatten(1).shape[1]
        rows = memory_grad[grad_rows[:, :support]].unflatten(1, write.index.shape[1:])  # [B, V, S, W] gradients of the rows written
        rows = torch.where(write.survives.unsqueeze(-1), rows, 0)
        grad_weights = torch.einsum("bhsw,bhw->bhs", rows, values)
        grad_values = torch.einsum("bhs,bhsw->bhw", weights, rows)
        memory_grad[grad_rows[:, support:][write.erased >= 0]] = 0  # M_t of a wiped row does not depend on M_{t-1}
        current.undo_write()
        if current.num_undone == len(current.writes):
            current.finish_rollback()
        return grad_token, grad_weights, grad_values, None, None, None


class _AttachOutputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, token, *outputs):  # type: ignore[no-untyped-def]
        return tuple(output.view_as(output) for output in outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        return grads[0].new_zeros(()), *grads
