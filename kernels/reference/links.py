"""SDNC's temporal links: two row-sparse matrices with K_L entries a row (Rae et al. 2016, supplement D, eq 17-22).

`after(i, j)` is N of the paper: how strongly row i was written right after row j. `before` is P, its transpose. A row of `before` lists the
rows written next, so a forward read uses rows of `before` and a backward read rows of `after`. No matrix of N x N entries is stored.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mann_bench.kernels.reference.lru_ring import LARGEST


@dataclass
class SparseLinks:
    """Both link matrices, with L (K_L in the paper) entries a row; a missing entry has column -1 and value 0."""

    after_columns: Tensor  # [B, N, L] int32
    after_values: Tensor  # [B, N, L]
    before_columns: Tensor  # [B, N, L] int32
    before_values: Tensor  # [B, N, L]

    @classmethod
    def empty(cls, batch: int, rows: int, entries: int, dtype: torch.dtype, device: torch.device | str | None = None) -> Self:
        """Make matrices without links (eq 17, 18), by default on torch's default device; ValueError if they are too large."""
        if rows * entries > LARGEST:
            raise ValueError(f"slots, link_entries: expected at most {LARGEST} links (their places are int32), got {rows} x {entries}")
        columns = torch.full((batch, rows, entries), -1, dtype=torch.int32, device=device)
        values = torch.zeros(batch, rows, entries, dtype=dtype, device=device)
        return cls(columns, values, columns.clone(), values.clone())


@dataclass
class LinkUndo:
    """What one update overwrote, in order: (target, rows [B, S], old [B, S, L])."""

    overwritten: list[tuple[Tensor, Tensor, Tensor]]

    def toggle(self) -> None:
        """Undo the update, bit for bit, or redo it: exchange the overwritten rows with the present ones."""
        undone = []
        for target, rows, old in reversed(self.overwritten):
            undone.append((target, rows, gather_link(target, rows)))
            element = torch.arange(rows.shape[0], device=rows.device).unsqueeze(1).expand_as(rows)
            present = rows >= 0
            target[element[present], rows[present]] = old[present]
        self.overwritten = undone


def largest_entries(columns: Tensor, values: Tensor, entries: int) -> tuple[Tensor, Tensor]:
    """Keep the `entries` largest values of a sparse vector: int64 [..., S], [..., S] -> [..., entries]; zero values get column -1.

    Of equal values that of the lower column is kept, NaN before all. What has no column counts as zero, also NaN.
    """
    values = torch.where(columns < 0, 0, values)
    if values.shape[-1] < entries:
        missing = entries - values.shape[-1]
        columns = torch.nn.functional.pad(columns, (0, missing), value=-1)
        values = torch.nn.functional.pad(values, (0, missing))
    best = largest_first(values, columns, entries)
    kept = values.gather(-1, best)
    return torch.where(kept <= 0, -1, columns.gather(-1, best)), kept.clamp_min(0)


def largest_first(values: Tensor, columns: Tensor, count: int) -> Tensor:
    """Places of the `count` largest of a few values [..., S], of equal ones that of the lower column; NaN counts as infinity."""
    by_column = columns.argsort(dim=-1)
    ranked = torch.where(values.isnan(), torch.inf, values).gather(-1, by_column)
    return by_column.gather(-1, ranked.argsort(dim=-1, descending=True, stable=True)[..., :count])


def add_sparse(columns: Tensor, values: Tensor, more_columns: Tensor, more_values: Tensor) -> tuple[Tensor, Tensor]:
    """Add two sparse vectors, each with distinct columns: [..., S], [..., S'] -> [..., S + S']; a shared column has one entry."""
    same = (columns.unsqueeze(-1) == more_columns.unsqueeze(-2)) & (columns >= 0).unsqueeze(-1)  # [..., S, S']
    summed = values + torch.where(same, more_values.unsqueeze(-2), 0).sum(-1)
    fresh = torch.where(same.any(dim=-2), 0, more_values)
    return torch.cat([columns, torch.where(fresh <= 0, -1, more_columns)], -1), torch.cat([summed, fresh], -1)


def link_update(links: SparseLinks, precedence: tuple[Tensor, Tensor], write: tuple[Tensor, Tensor]) -> LinkUndo:
    """Apply one write to both matrices in place, O(L^2) entries (eq 19, 20, zero diagonal).

    Each matrix row keeps its L largest entries. The rows of `before` that hold column j, which decays, are the columns of row j of `after`.

    Args:
        precedence: p_{t-1} as (rows int64 [B, L] distinct or -1, values [B, L]).
        write: w_t in the same form.
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
    """Compute forward and backward weights `f = N w` and `b = P w` (eq 21, 22) as sparse vectors with repeated columns.

    Args:
        index: int64 [B, R, K] rows last read, -1: none.
        weights: [B, R, K].

    Returns:
        f and b, each as (columns int64 [B, R, K*L], values [B, R, K*L]).
    """
    forward = _weighted_rows(links.before_columns, links.before_values, index, weights)
    backward = _weighted_rows(links.after_columns, links.after_values, index, weights)
    return forward, backward


def link_steps(
    links: SparseLinks, precedence: tuple[Tensor, Tensor], written: Tensor, weights: Tensor, index: Tensor, read_weights: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Do the link work of T steps: link the L largest weights of each write, advance the precedence (eq 11), read both ways.

    Args:
        precedence: before the first step, as (rows int64 [B, L], values [B, L]).
        written: int64 [T, B, 1 + R*K] rows of each write, distinct or -1.
        weights: [T, B, 1 + R*K] of each write.
        index: int64 [T, B, R, K] rows read.
        read_weights: [T, B, R, K].

    Returns:
        Forward and backward weights, each as (columns int64 [T, B, R, K*L], values), and the precedence after the last step.
    """
    entries, reads = links.after_columns.shape[2], []
    for rows, strengths, sources, source_weights in zip(written, weights, index, read_weights, strict=True):
        write = largest_entries(rows, strengths, entries)
        link_update(links, precedence, write)
        decay = (1 - torch.where(rows < 0, 0, strengths).sum(1, keepdim=True)).clamp_min(0)
        precedence = largest_entries(*add_sparse(precedence[0], precedence[1] * decay, *write), entries=entries)
        reads.append(link_read(links, sources, source_weights))
    forward, backward = zip(*reads, strict=True)
    joined = [(torch.stack(columns), torch.stack(values)) for columns, values in (zip(*side, strict=True) for side in (forward, backward))]
    return joined[0], joined[1], precedence


def gather_link(matrix: Tensor, rows: Tensor) -> Tensor:
    """Copy rows int64 [B, S] (negative: row 0) of matrix [B, N, L] -> [B, S, L]."""
    return matrix.gather(1, rows.clamp_min(0).unsqueeze(-1).expand(-1, -1, matrix.shape[2]))


def _weighted_rows(columns: Tensor, values: Tensor, index: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    flat = index.flatten(1)
    absent, shape = (flat < 0).unsqueeze(-1), (*index.shape[:2], -1)
    weighted = torch.where(absent, 0, gather_link(values, flat) * weights.flatten(1).unsqueeze(-1))
    return gather_link(columns, flat).long().masked_fill(absent, -1).reshape(shape), weighted.reshape(shape)


def _save(undo: LinkUndo, target: Tensor, rows: Tensor, old: Tensor) -> None:
    undo.overwritten.append((target, rows, old.clone()))
