"""Reading and writing a few rows of a memory in place, with a journal that restores the old rows bit for bit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mann_bench.kernels.reference.content import row_norms


@dataclass
class WriteJournal:
    """What a write overwrote: rows int64 [B, S] (a row may stand there twice, then with the same old content)."""

    rows: Tensor  # [B, S] int64
    content: Tensor  # [B, S, W]
    norms: Tensor  # [B, S] cached norms are restored too: recomputed ones may differ in the last bit


def gather_rows(memory: Tensor, rows: Tensor) -> Tensor:
    """memory [B, N, W], rows int64 [B, ...] -> copies [B, ..., W]."""
    flat = rows.flatten(1).unsqueeze(-1).expand(-1, -1, memory.shape[2])
    return memory.gather(1, flat).unflatten(1, rows.shape[1:])


def sparse_read(memory: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of K rows a head (Rae et al. 2016, eq 4): memory [B, N, W] (may be bfloat16), index int64 [B, R, K] (negative: none),
    weights [B, R, K] -> [B, R, W].
    """
    rows = gather_rows(memory, index.clamp_min(0)).to(weights.dtype)
    return torch.einsum("brk,brkw->brw", weights.masked_fill(index < 0, 0), rows)


def erase_survivors(index: Tensor, erased: Tensor) -> Tensor:
    """Which additions outlive their step, bool [B, H, S]: heads write in order, and a later head may erase an earlier one's row.

    index int64 [B, H, S] rows each head adds to, erased int64 [B, H] the row each head wipes before its own addition, -1: none.
    """
    heads = index.shape[1]
    wiped = index.unsqueeze(2) == erased[:, None, :, None]  # [B, H, H', S]: head h' wipes the row that head h adds to
    later = torch.ones(heads, heads, dtype=torch.bool, device=index.device).triu(1)[None, :, :, None]
    return ~(wiped & later).any(dim=2)


def sparse_write(memory: Tensor, norms: Tensor, index: Tensor, weights: Tensor, values: Tensor, erased: Tensor) -> WriteJournal:
    """In place `M = M - E + A` (Rae et al. 2016, eq 8): head by head, wipe its erased row, then add `weights * value` to its rows.

    memory [B, N, W] (may be bfloat16), norms [B, N] (kept equal to `row_norms(memory)`), index int64 [B, H, S] (entries with weight 0
    may name any row), weights [B, H, S], values [B, H, W], erased int64 [B, H] (-1: none). Returns the journal that `rollback` takes.
    """
    batch, heads, support = index.shape
    rows = torch.cat([index.flatten(1), torch.where(erased < 0, index[:, :, 0], erased)], dim=1)
    journal = WriteJournal(rows, gather_rows(memory, rows), norms.gather(1, rows))
    kept = torch.where(erase_survivors(index, erased), weights, 0)
    additions = (kept.unsqueeze(-1) * values.unsqueeze(2)).flatten(1, 2)  # [B, H*S, W]
    element = torch.arange(batch, device=memory.device)[:, None]
    wipe = erased >= 0
    memory[element.expand_as(erased)[wipe], erased[wipe]] = 0
    memory.index_put_((element.expand(-1, heads * support), index.flatten(1)), additions.to(memory.dtype), accumulate=True)
    norms.scatter_(1, rows, row_norms(gather_rows(memory, rows).to(norms.dtype)))
    return journal


def rollback(memory: Tensor, norms: Tensor, journal: WriteJournal) -> WriteJournal:
    """Undo a `sparse_write` exactly; returns the journal of what was undone, so that a second `rollback` re-applies it."""
    undone = WriteJournal(journal.rows, gather_rows(memory, journal.rows), norms.gather(1, journal.rows))
    memory.scatter_(1, journal.rows.unsqueeze(-1).expand_as(journal.content), journal.content)
    norms.scatter_(1, journal.rows, journal.norms)
    return undone
