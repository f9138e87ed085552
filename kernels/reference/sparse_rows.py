"""Reading and writing a few rows of a memory in place, with a journal that restores the old rows bit for bit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mann_bench.kernels.reference.content import row_norms


@dataclass
class WriteJournal:
    """What a write overwrote. A row may be listed twice, then with the same old content."""

    rows: Tensor  # [B, S] int64
    content: Tensor  # [B, S, W]
    norms: Tensor  # [B, S]; restored too, because recomputed norms may differ in the last bit


def gather_rows(memory: Tensor, rows: Tensor) -> Tensor:
    """Copy rows int64 [B, ...] of memory [B, N, W] -> [B, ..., W]."""
    flat = rows.flatten(1).unsqueeze(-1).expand(-1, -1, memory.shape[2])
    copies: Tensor = memory.gather(1, flat).unflatten(1, rows.shape[1:])
    return copies


def sparse_read(memory: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Compute a weighted sum of K rows a head (Rae et al. 2016, eq 4).

    Args:
        memory: [B, N, W], may be bfloat16.
        index: int64 [B, R, K], negative: none.
        weights: [B, R, K].

    Returns:
        [B, R, W].
    """
    rows = gather_rows(memory, index.clamp_min(0)).to(weights.dtype)
    return torch.einsum("brk,brkw->brw", weights.masked_fill(index < 0, 0), rows)


def erase_survivors(index: Tensor, erased: Tensor) -> Tensor:
    """Find the additions that survive their step, bool [B, V, S]: heads write in order, and a later head may erase a row of an earlier one.

    Args:
        index: int64 [B, V, S], rows that each head adds to.
        erased: int64 [B, V], the row that each head wipes before its addition, -1: none.
    """
    heads = index.shape[1]
    wiped = index.unsqueeze(2) == erased[:, None, :, None]  # [B, V, V', S]: head v' wipes the row that head v adds to
    later = torch.ones(heads, heads, dtype=torch.bool, device=index.device).triu(1)[None, :, :, None]
    return ~(wiped & later).any(dim=2)


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
    batch, heads, support = index.shape
    rows = torch.cat([index.flatten(1), torch.where(erased < 0, index[:, :, 0], erased)], dim=1)
    journal = WriteJournal(rows, gather_rows(memory, rows), norms.gather(1, rows))
    kept = torch.where(erase_survivors(index, erased), weights, 0)
    additions = (kept.unsqueeze(-1) * values.unsqueeze(2)).flatten(1, 2)  # [B, V*S, W]
    element = torch.arange(batch, device=memory.device)[:, None]
    wipe = erased >= 0
    memory[element.expand_as(erased)[wipe], erased[wipe]] = 0
    memory.index_put_((element.expand(-1, heads * support), index.flatten(1)), additions.to(memory.dtype), accumulate=True)
    norms.scatter_(1, rows, row_norms(gather_rows(memory, rows).to(norms.dtype)))
    return journal


def rollback(memory: Tensor, norms: Tensor, journal: WriteJournal) -> WriteJournal:
    """Undo a `sparse_write` exactly; returns a journal with which a second `rollback` redoes it."""
    undone = WriteJournal(journal.rows, gather_rows(memory, journal.rows), norms.gather(1, journal.rows))
    memory.scatter_(1, journal.rows.unsqueeze(-1).expand_as(journal.content), journal.content)
    norms.scatter_(1, journal.rows, journal.norms)
    return undone
