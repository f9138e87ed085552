"""SDNC's temporal links: two row-sparse matrices with K_L entries a row (Rae et al. 2016, supplement D, eq 17-22).

`after(i, j)` is N of the paper, how strongly row i was written right after row j; `before` is P, its transpose. A row of `before`
lists what followed, so a forward read walks rows of `before` and a backward read rows of `after`. No N x N anything.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass
class SparseLinks:
    """Both link matrices and the precedence, `L` = K_L entries a row; a missing entry has column -1 and value 0."""

    after_columns: Tensor  # [B, N, L] int32
    after_values: Tensor  # [B, N, L]
    before_columns: Tensor  # [B, N, L] int32
    before_values: Tensor  # [B, N, L]

    @classmethod
    def empty(cls, batch: int, rows: int, entries: int, dtype: torch.dtype, device: torch.device | str | None = None) -> Self:
        """No links yet (eq 17, 18), on torch's default device unless told otherwise."""
        columns = torch.full((batch, rows, entries), -1, dtype=torch.int32, device=device)
        values = torch.zeros(batch, rows, entries, dtype=dtype, device=device)
        return cls(columns, values, columns.clone(), values.clone())


@dataclass
class LinkUndo:
    """What one update overwrote, in the order it did: (target, rows [B, S], old [B, S, L])."""

    overwritten: list[tuple[Tensor, Tensor, Tensor]]

    def toggle(self) -> None:
        """Put the overwritten rows back, bit for bit, keeping what stood there: a second call makes the update again."""
        undone = []
        for target, rows, old in reversed(self.overwritten):
            undone.append((target, rows, gather_link(target, rows)))
            element = torch.arange(rows.shape[0], device=rows.device).unsqueeze(1).expand_as(rows)
            present = rows >= 0
            target[element[present], rows[present]] = old[present]
        self.overwritten = undone


def largest_entries(columns: Tensor, values: Tensor, entries: int) -> tuple[Tensor, Tensor]:
    """The `entries` largest of a sparse vector: int64 [..., S], [..., S] -> [..., entries]; zero values become column -1."""
    if values.shape[-1] < entries:
        missing = entries - values.shape[-1]
        columns = torch.nn.functional.pad(columns, (0, missing), value=-1)
        values = torch.nn.functional.pad(values, (0, missing))
    top = values.topk(entries, dim=-1)
    kept = columns.gather(-1, top.indices)
    return torch.where(top.values > 0, kept, -1), top.values.clamp_min(0)


def add_sparse(columns: Tensor, values: Tensor, more_columns: Tensor, more_values: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of two sparse vectors with distinct columns each: [..., S], [..., S'] -> [..., S + S']; a shared column stands once."""
    same = (columns.unsqueeze(-1) == more_columns.unsqueeze(-2)) & (columns >= 0).unsqueeze(-1)  # [..., S, S']
    summed = values + (same * more_values.unsqueeze(-2)).sum(-1)
    fresh = torch.where(same.any(dim=-2), 0, more_values)
    return torch.cat([columns, torch.where(fresh > 0, more_columns, -1)], -1), torch.cat([summed, fresh], -1)


def link_update(links: SparseLinks, precedence: tuple[Tensor, Tensor], write: tuple[Tensor, Tensor]) -> LinkUndo:
    """One write's effect on both matrices in place, O(L^2) entries (eq 19, 20, zero diagonal).

    precedence: p_{t-1} and write: w_t, both as (rows int64 [B, L] distinct or -1, values [B, L]). Each row keeps its L largest
    entries. Decaying a column j of `before` is done through row j of `after`, whose columns name the rows that hold it.
    """
    written, weights = write
    previous, previous_weights = precedence
    undo = LinkUndo([])
    batch = torch.arange(written.shape[0], device=written.device)

    # before(i, j) *= 1 - w(j), for every i in row j of after
    holders = gather_link(links.after_columns, written).long()  # [B, L, L] rows i that may hold column j
    flat = holders.flatten(1)
    decay = (1 - weights).unsqueeze(-1).expand_as(holders).flatten(1)  # [B, L*L]
    column = torch.where((holders >= 0) & (written >= 0).unsqueeze(-1), written.unsqueeze(-1), -2).flatten(1)  # -2: no such column
    rows = gather_link(links.before_values, flat)
    holds = gather_link(links.before_columns, flat) == column.unsqueeze(-1)  # [B, L*L, L], at most one a row
    _save(undo, links.before_values, flat, rows)
    element, entry, place = holds.nonzero(as_tuple=True)
    links.before_values[element, flat[element, entry], place] *= decay[element, entry]

    # before(i, :) += w(j) p(i) for the precedence rows i;  after(i, :) = (1 - w(i)) after(i, :) + w(i) p
    for columns, values, rows_, scale, keep, more, more_values in (
        (links.before_columns, links.before_values, previous, previous_weights, torch.ones_like(weights), written, weights),
        (links.after_columns, links.after_values, written, weights, 1 - weights, previous, previous_weights),
    ):
        old_columns, old_values = gather_link(columns, rows_), gather_link(values, rows_)
        _save(undo, columns, rows_, old_columns)
        _save(undo, values, rows_, old_values)
        others = more.unsqueeze(1).expand(-1, rows_.shape[1], -1)
        off_diagonal = (others != rows_.unsqueeze(-1)) & (others >= 0)
        additions = torch.where(off_diagonal, scale.unsqueeze(-1) * more_values.unsqueeze(1), 0)
        merged = add_sparse(old_columns.long(), old_values * keep.unsqueeze(-1), others, additions)
        new_columns, new_values = largest_entries(*merged, entries=columns.shape[2])
        present = rows_ >= 0
        at = (batch.unsqueeze(1).expand_as(rows_)[present], rows_[present])
        columns[at], values[at] = new_columns[present].int(), new_values[present]
    return undo


def link_read(links: SparseLinks, index: Tensor, weights: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Forward and backward weights `f = N w` and `b = P w` (eq 21, 22) as sparse vectors with repeated columns.

    index int64 [B, R, K] (-1: none), weights [B, R, K] -> two pairs (columns int64 [B, R, K*L], values [B, R, K*L]).
    """
    forward = _weighted_rows(links.before_columns, links.before_values, index, weights)
    backward = _weighted_rows(links.after_columns, links.after_values, index, weights)
    return forward, backward


def link_steps(
    links: SparseLinks, precedence: tuple[Tensor, Tensor], written: Tensor, weights: Tensor, index: Tensor, read_weights: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The link work of T steps: each links the K_L largest of its write, moves the precedence on (eq 11), and reads both ways.

    precedence before the first step as (rows int64 [B, L], values [B, L]); written int64 [T, B, 1 + R K] distinct or -1, weights alike: the
    write of each step; index int64 [T, B, R, K], read_weights alike -> forward and backward as (columns int64 [T, B, R, K L], values), and
    the precedence after the last step.
    """
    entries, reads = links.after_columns.shape[2], []
    for rows, strengths, sources, source_weights in zip(written, weights, index, read_weights, strict=True):
        write = largest_entries(rows, torch.where(rows < 0, 0, strengths), entries)
        link_update(links, precedence, write)
        decay = (1 - strengths.sum(1, keepdim=True)).clamp_min(0)
        precedence = largest_entries(*add_sparse(precedence[0], precedence[1] * decay, *write), entries=entries)
        reads.append(link_read(links, sources, source_weights))
    forward, backward = zip(*reads, strict=True)
    joined = [(torch.stack(columns), torch.stack(values)) for columns, values in (zip(*side, strict=True) for side in (forward, backward))]
    return joined[0], joined[1], precedence


def gather_link(matrix: Tensor, rows: Tensor) -> Tensor:
    """matrix [B, N, L], rows int64 [B, S] (negative: row 0) -> [B, S, L]."""
    return matrix.gather(1, rows.clamp_min(0).unsqueeze(-1).expand(-1, -1, matrix.shape[2]))


def _weighted_rows(columns: Tensor, values: Tensor, index: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    flat = index.flatten(1)
    scale = torch.where(index >= 0, weights, 0).flatten(1).unsqueeze(-1)
    shape = (*index.shape[:2], -1)
    return gather_link(columns, flat).long().reshape(shape), (gather_link(values, flat) * scale).reshape(shape)


def _save(undo: LinkUndo, target: Tensor, rows: Tensor, old: Tensor) -> None:
    undo.overwritten.append((target, rows, old.clone()))
