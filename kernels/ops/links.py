"""`link_update` and `link_read` on native kernels; twins: `kernels/reference/links.py`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mann_bench.kernels.native.registration import operator
from mann_bench.kernels.ops.operator import Call, threads_for
from mann_bench.kernels.reference import SparseLinks
from mann_bench.kernels.reference.lru_ring import LARGEST


@dataclass
class LinkUndo:
    """What one update overwrote."""

    links: SparseLinks
    journal: tuple[Tensor, ...]
    stands: bool = True  # whether the update is in effect

    def toggle(self) -> None:
        """Undo the update, bit for bit, or redo it: exchange the overwritten rows with the present ones."""
        self.stands = not self.stands
        _link_swap_op(*_matrices(self.links), *self.journal, self.stands)


def link_update(links: SparseLinks, precedence: tuple[Tensor, Tensor], write: tuple[Tensor, Tensor]) -> LinkUndo:
    """Apply one write to both matrices in place, O(L^2) entries (Rae et al. 2016, eq 19, 20, zero diagonal).

    Each matrix row keeps its L largest entries.

    Args:
        precedence: p_{t-1} as (rows int64 [B, L] distinct or -1, values [B, L]).
        write: w_t in the same form.
    """
    return LinkUndo(links, _link_update_op(*_matrices(links), *precedence, *write))


def link_read(links: SparseLinks, index: Tensor, weights: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Compute forward and backward weights `f = N w` and `b = P w` (eq 21, 22) as sparse vectors with repeated columns. No gradient.

    Args:
        index: int64 [B, R, K] rows last read, -1: none.
        weights: [B, R, K].

    Returns:
        f and b, each as (columns int64 [B, R, K*L], -1: none; values [B, R, K*L]).
    """
    columns, values = _link_read_op(*_matrices(links), index, weights.detach())
    return (columns[0], values[0]), (columns[1], values[1])


def link_steps(
    links: SparseLinks, precedence: tuple[Tensor, Tensor], written: Tensor, weights: Tensor, index: Tensor, read_weights: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Do the link work of T steps in one call: link the L largest weights of each write, advance the precedence (eq 11), read both ways.

    Args:
        precedence: before the first step, as (rows int64 [B, L], values [B, L]).
        written: int64 [T, B, 1 + R*K] rows of each write, distinct or -1.
        weights: [T, B, 1 + R*K] of each write.
        index: int64 [T, B, R, K] rows read.
        read_weights: [T, B, R, K].

    Returns:
        Forward and backward weights, each as (columns int64 [T, B, R, K*L], values), and the precedence after the last step.
    """
    columns, values, rows, last = _link_steps_op(*_matrices(links), *precedence, written, weights, index, read_weights)
    return (columns[:, 0], values[:, 0]), (columns[:, 1], values[:, 1]), (rows, last)


def _matrices(links: SparseLinks) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return links.after_columns, links.after_values, links.before_columns, links.before_values


def _link_update(
    after_columns: Tensor,
    after_values: Tensor,
    before_columns: Tensor,
    before_values: Tensor,
    previous: Tensor,
    previous_weights: Tensor,
    written: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    matrices = (after_columns, after_values, before_columns, before_values)
    call, sizes, buffers = _links("link_update", *matrices)
    batch, slots, entries = after_columns.shape
    for name, rows, values in (("precedence", previous, previous_weights), ("write", written, weights)):
        call.expect(f"{name} rows", rows, torch.int64, B=batch, L=entries)
        call.expect(f"{name} values", values, call.real, B=batch, L=entries)
    previous, written = previous.contiguous(), written.contiguous()
    call.rows_in_range({"precedence rows": previous, "write rows": written}, slots)
    journal = _journal_like(after_columns, after_values)
    sizes["scratch_stride"] = 12 * entries * entries
    inputs = {"rows": previous, "values": previous_weights.contiguous(), "index": written, "weights": weights.contiguous()}
    scratch = {"scratch": after_values.new_empty(batch, sizes["scratch_stride"])}
    call.run("mb_link_update", sizes, inputs, {**buffers, **scratch, **dict(zip(_JOURNAL, journal, strict=True))})
    return journal


_JOURNAL = ("linked_rows", "precedence_rows", "decayed_offsets", "decayed_values", "old_columns", "old_values")


def _link_swap(
    after_columns: Tensor,
    after_values: Tensor,
    before_columns: Tensor,
    before_values: Tensor,
    linked_rows: Tensor,
    precedence_rows: Tensor,
    decayed_places: Tensor,
    decayed_values: Tensor,
    old_columns: Tensor,
    old_values: Tensor,
    forward: bool,
) -> None:
    call, sizes, buffers = _links("link_swap", after_columns, after_values, before_columns, before_values)
    journal = (linked_rows, precedence_rows, decayed_places, decayed_values, old_columns, old_values)
    named = dict(zip(_JOURNAL, journal, strict=True))
    rows = {name: named.pop(name) for name in _JOURNAL[:3]}
    call.run("mb_link_swap", {**sizes, "taped": int(forward)}, rows, {**buffers, **named})


def _link_read(
    after_columns: Tensor, after_values: Tensor, before_columns: Tensor, before_values: Tensor, index: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    call, sizes, buffers = _links("link_read", after_columns, after_values, before_columns, before_values)
    batch, slots, entries = after_columns.shape
    _, heads, reads = call.expect("index", index, torch.int64, B=batch, R=None, K=None)
    call.expect("weights", weights, call.real, B=batch, R=heads, K=reads)
    index = index.contiguous()
    call.rows_in_range({"index": index}, slots)
    columns, values = index.new_empty(2, batch, heads, reads * entries), weights.new_empty(2, batch, heads, reads * entries)
    inputs = {**buffers, "index": index, "weights": weights.contiguous()}
    call.run("mb_link_read", {**sizes, "heads": heads, "reads": reads}, inputs, {"rows": columns, "out": values})
    return columns, values


def _link_steps(
    after_columns: Tensor,
    after_values: Tensor,
    before_columns: Tensor,
    before_values: Tensor,
    previous: Tensor,
    previous_weights: Tensor,
    written: Tensor,
    weights: Tensor,
    index: Tensor,
    read_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    call, sizes, buffers = _links("link_steps", after_columns, after_values, before_columns, before_values)
    batch, slots, entries = after_columns.shape
    steps, _, heads, reads = call.expect("index", index, torch.int64, T=None, B=batch, R=None, K=None)
    call.expect("read_weights", read_weights, call.real, T=steps, B=batch, R=heads, K=reads)
    call.expect("written", written, torch.int64, T=steps, B=batch, S=1 + heads * reads)
    call.expect("weights", weights, call.real, T=steps, B=batch, S=1 + heads * reads)
    call.expect("precedence rows", previous, torch.int64, B=batch, L=entries)
    call.expect("precedence values", previous_weights, call.real, B=batch, L=entries)
    index, written, previous = index.contiguous(), written.contiguous(), previous.contiguous()
    call.rows_in_range({"index": index, "written": written, "precedence rows": previous}, slots)
    places = (start.unsqueeze(1).repeat(1, 2, 1) for start in (previous.int(), previous_weights))
    rows, precedence = places  # [B, 2, L]: the two alternate as before and after a step
    columns = index.new_empty(steps, 2, batch, heads, reads * entries)
    values = weights.new_empty(columns.shape)
    numbers = 12 * entries**2 + 4 * entries + 3 * written.shape[2]
    sizes |= {"steps": steps, "heads": heads, "reads": reads, "scratch_stride": numbers}
    sizes["threads"] = threads_for(batch * steps * entries**2 * 64)
    journal = dict(zip(_JOURNAL, _journal_like(after_columns, after_values), strict=True))
    changed = {**journal, "precedence_rows": rows, "precedence": precedence, "rows": columns, "out": values}
    changed["scratch"] = values.new_empty(batch, numbers)
    inputs = {
        "read_index": index.int(),
        "read_weights": read_weights.contiguous(),
        "written": written.int(),
        "weights": weights.contiguous(),
    }
    call.run("mb_link_steps", sizes, inputs, {**buffers, **changed})
    last = steps % 2
    return columns, values, rows[:, last].long(), precedence[:, last].clone()


def _links(
    op: str, after_columns: Tensor, after_values: Tensor, before_columns: Tensor, before_values: Tensor
) -> tuple[Call, dict[str, int], dict[str, Tensor]]:
    call = Call(op, after_values)
    batch, slots, entries = shape = call.expect("links.after_values", after_values, call.real, B=None, N=None, L=None)
    sizes = dict(zip("BNL", shape, strict=True))
    call.expect("links.before_values", before_values, call.real, **sizes)
    call.expect("links.after_columns", after_columns, torch.int32, **sizes)
    call.expect("links.before_columns", before_columns, torch.int32, **sizes)
    if slots * entries > LARGEST:
        raise ValueError(f"{op}: links: expected N L <= {LARGEST} (their places are int32), got {slots} x {entries}")
    buffers = {
        "after_columns": after_columns,
        "after_values": after_values,
        "before_columns": before_columns,
        "before_values": before_values,
    }
    return call, {"batch": batch, "slots": slots, "links": entries, "threads": 1}, buffers


def _journal_like(after_columns: Tensor, after_values: Tensor, *others: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, _, entries = after_columns.shape
    return (
        after_columns.new_empty(batch, entries),
        after_columns.new_empty(batch, entries),
        after_columns.new_empty(batch, entries, entries),
        after_values.new_zeros(batch, entries, entries),  # zeros: entries without a row are not written
        after_columns.new_zeros(batch, 2 * entries, entries),
        after_values.new_zeros(batch, 2 * entries, entries),
    )


def _nothing(*links_and_journal):  # type: ignore[no-untyped-def]
    return None


def _read_like(after_columns, after_values, before_columns, before_values, index, weights):  # type: ignore[no-untyped-def]
    batch, heads, reads = index.shape
    shape = (2, batch, heads, reads * after_columns.shape[2])
    return index.new_empty(shape), weights.new_empty(shape)


def _steps_like(  # type: ignore[no-untyped-def]
    after_columns, after_values, before_columns, before_values, previous, previous_weights, written, weights, index, read_weights
):
    steps, batch, heads, reads = index.shape
    columns = index.new_empty(steps, 2, batch, heads, reads * after_columns.shape[2])
    return columns, weights.new_empty(columns.shape), previous.new_empty(previous.shape), previous_weights.new_empty(previous.shape)


_MATRICES = ("after_columns", "after_values", "before_columns", "before_values")
_link_update_op = operator(_link_update, _journal_like, changes=_MATRICES)
_link_swap_op = operator(_link_swap, _nothing, changes=(*_MATRICES, *_JOURNAL[3:]))
_link_read_op = operator(_link_read, _read_like)
_link_steps_op = operator(_link_steps, _steps_like, changes=_MATRICES)
