"""How the steps of SAM and SDNC read and write a sparse memory, differentiable; of a pass run step by step in torch.

Of rows that are read, autograd keeps copies. Where a pass keeps the rows it overwrites rounded (`StepwisePass.snapshot`), it keeps no
copies: backward reads the rows from the memory as it stands then, rounded if a later step overwrote them, as native kernels do.

S: rows that a write head adds to.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mann_bench.kernels.reference import WriteJournal, cosine_to_rows, erase_survivors, gather_rows, row_norms, sparse_write
from mann_bench.kernels.reference.snapshot import Snapshot
from mann_bench.models.sparse.memory import SparseMemory
from mann_bench.models.sparse.passes import StepwisePass
from mann_bench.models.sparse.written import Write


class RowsFound:
    """Rows int64 [B, R, K] of the memory as it stands, to be compared and read with their gradients. -1: none, zeros without a gradient."""

    def __init__(self, current: StepwisePass, rows: Tensor) -> None:
        self.current, self.rows = current, rows
        self.copies = None if current.recorded and current.snapshot != "exact" else gather(current, rows)

    def cosines(self, queries: Tensor) -> Tensor:
        """Compute the cosine of each query [B, R, W] to its K rows: [B, R, K]."""
        if self.copies is not None:
            return cosine_to_rows(queries, self.copies)
        cosines: Tensor
        cosines, self.current.token = _Cosines.apply(self.current.token, queries, self.current, self.rows, self._access())
        return cosines

    def read(self, weights: Tensor) -> Tensor:
        """Compute the sum of the rows with weights [B, R, K]: [B, R, W]."""
        if self.copies is not None:
            return torch.einsum("brk,brkw->brw", weights, self.copies)
        read: Tensor
        read, self.current.token = _Read.apply(self.current.token, weights, self.current, self.rows, self._access())
        return read

    def _access(self) -> int:
        return self.current.record_access(self.rows.clamp_min(0))


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


def norms_of(memory: SparseMemory, rows: Tensor) -> Tensor:
    """The norms of rows int64 [B, R, K], as `copy_rows` copies them."""
    return memory.norms.gather(1, rows.clamp_min(0).flatten(1)).view_as(rows).masked_fill_(rows < 0, 1)


def write(current: StepwisePass, index: Tensor, weights: Tensor, values: Tensor, erased: Tensor) -> None:
    """Run `sparse_write` on the memory; weights [B, V, S] and values [B, V, W] receive gradients."""
    if not current.recorded:
        write_running(current, index, weights, values, erased)
    else:
        current.token = _WriteRows.apply(current.token, weights, values, current, index, erased)


def write_running(current: StepwisePass, index: Tensor, weights: Tensor, values: Tensor, erased: Tensor) -> WriteJournal:
    """`sparse_write`, which leaves the rows of elements that have ended as they are to the bit."""
    memory = current.memory
    journal = sparse_write(memory.memory, memory.norms, index, weights, values, erased)
    if current.idle is not None:
        rows = journal.rows[current.idle]
        element = current.idle.nonzero().expand_as(rows)
        memory.memory[element, rows], memory.norms[element, rows] = journal.content[current.idle], journal.norms[current.idle]
    return journal


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
        add_gradient(ctx.current, ctx.access, grad.masked_fill(ctx.absent, 0))
        return grad_token, None, None, None


class _Cosines(torch.autograd.Function):
    @staticmethod
    def forward(ctx, token, queries, current, rows, access):  # type: ignore[no-untyped-def]
        cosines = cosine_to_rows(queries, copy_rows(current.memory, rows))
        ctx.current, ctx.rows, ctx.access = current, rows, access
        ctx.save_for_backward(queries, cosines)
        return cosines, token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_token):  # type: ignore[no-untyped-def]
        queries, cosines = ctx.saved_tensors
        grad = grad.masked_fill(ctx.rows < 0, 0)
        rows, norms = copy_rows(ctx.current.memory, ctx.rows), norms_of(ctx.current.memory, ctx.rows)
        lengths = row_norms(queries).unsqueeze(-1)  # [B, R, 1]
        across, along = grad / (norms * lengths), grad * cosines
        grad_rows = across.unsqueeze(-1) * queries.unsqueeze(-2) - (along / norms.square()).unsqueeze(-1) * rows
        add_gradient(ctx.current, ctx.access, grad_rows)
        grad_queries = torch.einsum("brk,brkw->brw", across, rows) - along.sum(-1, keepdim=True) / lengths.square() * queries
        return grad_token, grad_queries, None, None, None


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx, token, weights, current, rows, access):  # type: ignore[no-untyped-def]
        ctx.current, ctx.rows, ctx.access = current, rows, access
        ctx.save_for_backward(weights)
        return torch.einsum("brk,brkw->brw", weights, copy_rows(current.memory, rows)), token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_token):  # type: ignore[no-untyped-def]
        (weights,) = ctx.saved_tensors
        grad_rows = weights.unsqueeze(-1) * grad.unsqueeze(-2)
        add_gradient(ctx.current, ctx.access, grad_rows.masked_fill((ctx.rows < 0).unsqueeze(-1), 0))
        return grad_token, torch.einsum("brw,brkw->brk", grad, copy_rows(ctx.current.memory, ctx.rows)), None, None, None


class _WriteRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, token, weights, values, current, index, erased):  # type: ignore[no-untyped-def]
        survives = erase_survivors(index, erased)
        ctx.current, ctx.step = current, len(current.writes)
        journal, kind = write_running(current, index, weights, values, erased), current.snapshot
        kept, norms = Snapshot.of(journal.content, kind), journal.norms if kind == "exact" else None
        # at once: what fails from here on can be rolled back
        current.writes.append(Write(journal.rows, kept, norms, kind, current.idle, index, erased, survives))
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
            current.finish_backward(current.touched)
        return grad_token, grad_weights, grad_values, None, None, None


def add_gradient(current: StepwisePass, access: int, gradient: Tensor) -> None:
    """Add the gradient [B, R, K, W] of the rows of one access to that of the memory."""
    memory_grad, grad_rows = current.gradient_of(access)
    memory_grad.index_add_(0, grad_rows.flatten(), gradient.flatten(0, -2))
