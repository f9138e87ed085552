"""`sparse_write` and `rollback` on native kernels; twins: `kernels/reference/sparse_rows.py`."""

import torch
from torch import Tensor

from mann_bench.kernels.native.registration import operator
from mann_bench.kernels.ops.operator import Call, expect_no_gradient, threads_for
from mann_bench.kernels.reference import WriteJournal


def sparse_write(memory: Tensor, norms: Tensor, index: Tensor, weights: Tensor, values: Tensor, erased: Tensor) -> WriteJournal:
    """Write `M = M - E + A` in place (Rae et al. 2016, eq 8): head by head, wipe its erased row, then add `weights * value` to its rows.

    Args:
        memory: [B, N, W], may be bfloat16.
        norms: [B, N], updated to `row_norms(memory)`.
        index: int64 [B, V, S], rows that each of the V write heads adds to; an entry with weight 0 may name any row.
        weights: [B, V, S].
        values: [B, V, W].
        erased: int64 [B, V], negative: none.

    Returns:
        The journal with which `rollback` undoes the write.
    """
    expect_no_gradient("sparse_write", memory=memory, weights=weights, values=values)
    return WriteJournal(*_sparse_write_op(memory, norms, index, weights, values, erased))


def rollback(memory: Tensor, norms: Tensor, journal: WriteJournal) -> WriteJournal:
    """Undo a `sparse_write` exactly; returns a journal with which a second `rollback` redoes it."""
    expect_no_gradient("rollback", memory=memory)
    return WriteJournal(journal.rows, *_rollback_op(memory, norms, journal.rows, journal.content, journal.norms))


def _sparse_write(
    memory: Tensor, norms: Tensor, index: Tensor, weights: Tensor, values: Tensor, erased: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    call = Call("sparse_write", norms, memory)
    batch, slots, width = call.expect("memory", memory, call.store, B=None, N=None, W=None)
    call.expect("norms", norms, call.real, B=batch, N=slots)
    _, heads, support = call.expect("index", index, torch.int64, B=batch, V=None, S=None)
    call.expect("weights", weights, call.real, B=batch, V=heads, S=support)
    call.expect("values", values, call.real, B=batch, V=heads, W=width)
    call.expect("erased", erased, torch.int64, B=batch, V=heads)
    if support < 1:
        raise ValueError(f"sparse_write: index: expected at least one row a head (S >= 1), got [B, V, S] = {list(index.shape)}")
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


_sparse_write_op = operator(_sparse_write, _journal_like, changes=("memory", "norms"))
_rollback_op = operator(_rollback, _copies_like, changes=("memory", "norms"))
