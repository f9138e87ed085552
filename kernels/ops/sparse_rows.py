"""`sparse_read`, `sparse_write` and `rollback` on native kernels; twins: `kernels/reference/sparse_rows.py`."""

import torch
from torch import Tensor

from mann_bench.kernels.native.registration import operator
from mann_bench.kernels.ops.operator import Call, expect_no_gradient, threads_for
from mann_bench.kernels.reference import WriteJournal


def sparse_read(memory: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of K rows a head (Rae et al. 2016, eq 4): memory [B, N, W] (may be bfloat16), index int64 [B, R, K] (negative: none),
    weights [B, R, K] -> [B, R, W]. Differentiable in memory (a dense gradient) and weights.
    """
    return _sparse_read_op(memory, index, weights)


def sparse_write(memory: Tensor, norms: Tensor, index: Tensor, weights: Tensor, values: Tensor, erased: Tensor) -> WriteJournal:
    """In place `M = M - E + A` (Rae et al. 2016, eq 8): head by head, wipe its erased row, then add `weights * value` to its rows.

    memory [B, N, W] (may be bfloat16), norms [B, N] (kept equal to `row_norms(memory)`), index int64 [B, H, S] (entries with weight 0 may
    name any row), weights [B, H, S], values [B, H, W], erased int64 [B, H] (negative: none). Returns the journal that `rollback` takes.
    """
    expect_no_gradient("sparse_write", memory=memory, weights=weights, values=values)
    return WriteJournal(*_sparse_write_op(memory, norms, index, weights, values, erased))


def rollback(memory: Tensor, norms: Tensor, journal: WriteJournal) -> WriteJournal:
    """Undo a `sparse_write` exactly; returns the journal of what was undone, so that a second `rollback` re-applies it."""
    expect_no_gradient("rollback", memory=memory)
    return WriteJournal(journal.rows, *_rollback_op(memory, norms, journal.rows, journal.content, journal.norms))


def _sparse_read(memory: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    call, sizes, inputs = _reading(memory, index, weights)
    out = weights.new_empty(*index.shape[:2], memory.shape[2])
    call.run("mb_sparse_read", sizes, inputs, {"out": out})
    return out


def _sparse_read_back(memory: Tensor, index: Tensor, weights: Tensor, grad: Tensor, of_memory: bool) -> tuple[Tensor, Tensor]:
    call, sizes, inputs = _reading(memory, index, weights)
    call.expect("grad", grad, call.real, B=sizes["batch"], R=sizes["heads"], W=sizes["width"])
    out = weights.new_empty(weights.shape)
    gradient = weights.new_zeros(memory.shape if of_memory else 0)
    changed = {"out": out, "row_gradient": gradient} if of_memory else {"out": out}
    call.run("mb_sparse_read_back", sizes, {**inputs, "values": grad.contiguous()}, changed)
    return gradient, out


def _reading(memory: Tensor, index: Tensor, weights: Tensor) -> tuple[Call, dict[str, int], dict[str, Tensor]]:
    call = Call("sparse_read", weights, memory)
    batch, slots, width = call.expect("memory", memory, call.store, B=None, N=None, W=None)
    _, heads, reads = call.expect("index", index, torch.int64, B=batch, R=None, K=None)
    call.expect("weights", weights, call.real, B=batch, R=heads, K=reads)
    index = index.contiguous()
    call.rows_in_range({"index": index}, slots)
    sizes = {"batch": batch, "slots": slots, "width": width, "heads": heads, "reads": reads}
    sizes["threads"] = threads_for(batch * heads * reads * width * memory.element_size())
    return call, sizes, {"memory": memory, "index": index, "weights": weights.contiguous()}


def _sparse_write(
    memory: Tensor, norms: Tensor, index: Tensor, weights: Tensor, values: Tensor, erased: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    call = Call("sparse_write", norms, memory)
    batch, slots, width = call.expect("memory", memory, call.store, B=None, N=None, W=None)
    call.expect("norms", norms, call.real, B=batch, N=slots)
    _, heads, support = call.expect("index", index, torch.int64, B=batch, H=None, S=None)
    call.expect("weights", weights, call.real, B=batch, H=heads, S=support)
    call.expect("values", values, call.real, B=batch, H=heads, W=width)
    call.expect("erased", erased, torch.int64, B=batch, H=heads)
    if support < 1:
        raise ValueError(f"sparse_write: index: expected at least one row a head (S >= 1), got [B, H, S] = {list(index.shape)}")
    index, erased = index.contiguous(), erased.contiguous()
    call.rows_in_range({"index": index}, slots, none=False)
    call.rows_in_range({"erased": erased}, slots)
    entries = heads * (support + 1)
    rows, old_rows, old_norms = index.new_empty(batch, entries), memory.new_empty(batch, entries, width), norms.new_empty(batch, entries)
    sizes = {"batch": batch, "slots": slots, "width": width, "write_heads": heads, "reads": support}
    sizes["threads"] = threads_for(4 * old_rows.nbytes)
    inputs = {"index": index, "weights": weights.contiguous(), "values": values.contiguous(), "erased": erased}
    changed = {"memory": memory, "norms": norms, "rows": rows, "old_rows": old_rows, "old_norms": old_norms}
    call.run("mb_sparse_write", sizes, inputs, changed)
    return rows, old_rows, old_norms


def _rollback(memory: Tensor, norms: Tensor, rows: Tensor, content: Tensor, old_norms: Tensor) -> tuple[Tensor, Tensor]:
    call = Call("rollback", norms, memory)
    batch, slots, width = call.expect("memory", memory, call.store, B=None, N=None, W=None)
    call.expect("norms", norms, call.real, B=batch, N=slots)
    _, entries = call.expect("journal.rows", rows, torch.int64, B=batch, S=None)
    call.expect("journal.content", content, call.store, B=batch, S=entries, W=width)
    call.expect("journal.norms", old_norms, call.real, B=batch, S=entries)
    rows = rows.contiguous()
    call.rows_in_range({"journal.rows": rows}, slots, none=False)
    undone, undone_norms = (tensor.clone(memory_format=torch.contiguous_format) for tensor in (content, old_norms))
    sizes = {"batch": batch, "slots": slots, "width": width, "reads": entries, "threads": threads_for(2 * content.nbytes)}
    changed = {"memory": memory, "norms": norms, "old_rows": undone, "old_norms": undone_norms}
    call.run("mb_rollback", sizes, {"rows": rows}, changed)
    return undone, undone_norms


def _journal_like(memory, norms, index, weights, values, erased):  # type: ignore[no-untyped-def]
    batch, heads, support = index.shape
    entries = heads * (support + 1)
    return index.new_empty(batch, entries), memory.new_empty(batch, entries, memory.shape[2]), norms.new_empty(batch, entries)


def _copies_like(memory, norms, rows, content, old_norms):  # type: ignore[no-untyped-def]
    return content.new_empty(content.shape), old_norms.new_empty(old_norms.shape)


def _read_like(memory, index, weights):  # type: ignore[no-untyped-def]
    return weights.new_empty(*index.shape[:2], memory.shape[2])


def _gradients_like(memory, index, weights, grad, of_memory):  # type: ignore[no-untyped-def]
    return weights.new_empty(memory.shape if of_memory else 0), weights.new_empty(weights.shape)


_sparse_read_op = operator(_sparse_read, _read_like)
_sparse_read_back_op = operator(_sparse_read_back, _gradients_like)
_sparse_write_op = operator(_sparse_write, _journal_like, changes=("memory", "norms"))
_rollback_op = operator(_rollback, _copies_like, changes=("memory", "norms"))


def _keep(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _read_gradients(ctx, grad):  # type: ignore[no-untyped-def]
    memory, index, weights = ctx.saved_tensors
    gradient, of_weights = _sparse_read_back_op(memory, index, weights, grad, ctx.needs_input_grad[0])
    return gradient.to(memory.dtype) if ctx.needs_input_grad[0] else None, None, of_weights


torch.library.register_autograd("mann_bench::sparse_read", _read_gradients, setup_context=_keep)
