"""One step of a gated delta rule on the rows of a bank: decay, correct and read, O(K) whatever the number of slots.

    M[s] <- exp(g) M[s];   r = sum_n k_n M[s_n];   M[s_n] <- M[s_n] + k_n beta (v - r);   y = sum_m q_m M[s'_m]

Autograd sees weights, values and gates, and a scalar token that ties the steps of a pass into one chain (`models/sparse/passes.py`).
Backward of a step reads the bank as it stands after the step, then rolls the write back: of the rows it needs only what they held.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mann_bench.models.phases import phase
from mann_bench.models.slots.access import Read, Write
from mann_bench.models.slots.passes import RowsWritten, StepwiseBankPass


def delta_step(current: StepwiseBankPass, write: Write, read: Read, *, weighted: bool) -> Tensor:
    """Write, then read the bank as it is then: [B, R, W]. Elements that have ended (`current.idle`) keep their rows to the bit.

    Args:
        weighted: whether slot n decays by exp(g k_n) instead of exp(g).
    """
    if not current.recorded:
        return advance(current, write, read, weighted)
    y: Tensor
    y, current.token = _DeltaStep.apply(
        current.token, *write[1:], read.weights, current, write.rows, read.rows, weighted
    )  # fmt: skip
    return y


def advance(current: StepwiseBankPass, write: Write, read: Read, weighted: bool) -> Tensor:
    """The step itself."""
    flat, shape = current.memory.flat(), (*write.rows.shape, write.values.shape[-1])
    with phase("write"):
        old = flat[write.rows.flatten()].view(shape)
        decayed = kept_share(write, weighted).unsqueeze(-1) * old
        error = write.values - torch.einsum("brk,brkw->brw", write.weights, decayed)
        new = decayed + write.weights.unsqueeze(-1) * (write.strength.unsqueeze(-1) * error).unsqueeze(-2)
        if current.idle is not None:
            new = torch.where(current.idle.view(-1, 1, 1, 1), old, new)
        if current.recorded:
            going = slice(None) if current.idle is None else ~current.idle  # a row that comes back rounded is one that was written
            current.writes.append(RowsWritten(flat, write.rows[going].flatten(), old[going].flatten(0, 2), current.snapshot))
        flat.index_copy_(0, write.rows.flatten(), new.flatten(0, 2))
    with phase("read"):
        return torch.einsum("brk,brkw->brw", read.weights, flat[read.rows.flatten()].view(*read.rows.shape, -1))


def kept_share(write: Write, weighted: bool) -> Tensor:
    """What is kept of each row before it is corrected, [B, R, 1] or, weighted, [B, R, Kw]."""
    decay = write.decay.unsqueeze(-1)
    return torch.exp(decay * write.weights if weighted else decay)


class _DeltaStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, token, weights, values, decay, strength, read_weights, current, rows, read_rows, weighted):  # type: ignore[no-untyped-def]
        write, read = Write(rows, weights, values, decay, strength), Read(read_rows, read_weights)
        ctx.current, ctx.weighted, ctx.idle = current, weighted, current.idle
        ctx.number, ctx.access = len(current.writes), len(current.accessed)
        ctx.save_for_backward(*write[1:], read_weights)
        y = advance(current, write, read, weighted)
        current.accessed += [rows, read_rows]
        return y, token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_token):  # type: ignore[no-untyped-def]
        *parts, read_weights = ctx.saved_tensors
        current = ctx.current
        grad_memory, touched_read = current.gradient_of(ctx.access + 1)
        _, touched = current.gradient_of(ctx.access)
        rows, read_rows = current.accessed[ctx.access : ctx.access + 2]
        write = Write(rows, *parts)

        grad_read_weights = torch.einsum("brw,brkw->brk", grad, current.memory.flat()[read_rows.flatten()].view(*read_rows.shape, -1))
        grad_memory.index_add_(0, touched_read.flatten(), (read_weights.unsqueeze(-1) * grad.unsqueeze(-2)).flatten(0, 2))

        current.require_next(ctx.number)
        current.writes[ctx.number].undo()
        old = current.memory.flat()[rows.flatten()].view(*rows.shape, -1)
        grad_new = grad_memory[touched.flatten()].view_as(old)
        grad_old, grads = backward_of_write(write, old, grad_new, ctx.weighted)
        if ctx.idle is not None:
            grad_old = torch.where(ctx.idle.view(-1, 1, 1, 1), grad_new, grad_old)
            grads = [part.masked_fill(ctx.idle.view(-1, *[1] * (part.dim() - 1)), 0) for part in grads]
        grad_memory.index_copy_(0, touched.flatten(), grad_old.flatten(0, 2))
        current.undone(current.touched)
        return grad_token, *grads, grad_read_weights, None, None, None, None


def backward_of_write(write: Write, old: Tensor, grad_new: Tensor, weighted: bool) -> tuple[Tensor, list[Tensor]]:
    """Go back through a write from what its rows held before, [B, R, Kw, W], and the gradient of what they held after.

    Returns:
        The gradient of what they held before, and those of weights, values, decay and strength.
    """
    weights, strength = write.weights, write.strength.unsqueeze(-1)
    share = kept_share(write, weighted)
    decayed = share.unsqueeze(-1) * old
    error = write.values - torch.einsum("brk,brkw->brw", weights, decayed)
    grad_change = torch.einsum("brk,brkw->brw", weights, grad_new)  # of beta (v - r)
    grad_error = strength * grad_change
    grad_weights = torch.einsum("brkw,brw->brk", grad_new, strength * error) - torch.einsum("brkw,brw->brk", decayed, grad_error)
    grad_decayed = grad_new - weights.unsqueeze(-1) * grad_error.unsqueeze(-2)
    grad_exponent = (grad_decayed * decayed).sum(-1)  # [B, R, Kw]; the derivative of exp is itself
    if weighted:
        grad_weights = grad_weights + grad_exponent * write.decay.unsqueeze(-1)
        grad_exponent = grad_exponent * weights
    grads = [grad_weights, grad_error, grad_exponent.sum(-1), (grad_change * error).sum(-1)]
    return share.unsqueeze(-1) * grad_decayed, grads
