"""SDNC: SAM with the DNC's temporal links kept row-sparse (Rae et al. 2016, supplement D): O(K_L^2) a step and no N x N anything."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mann_bench.kernels.reference import SparseLinks, add_sparse, largest_entries, link_read, link_update
from mann_bench.models.mann import check_at_least
from mann_bench.models.phases import phase
from mann_bench.models.sam import DELTA, SAM, SAMMemory
from mann_bench.models.sparse.memory import gather
from mann_bench.models.state import Fill, State


@dataclass
class LinkState(SparseLinks, State):
    """The link matrices as part of a state: changed in place and rolled back with the memory."""


@dataclass
class SDNCMemory(SAMMemory):
    """SAM's memory, the links, and the precedence as a sparse vector."""

    links: LinkState = None  # type: ignore[assignment]  # dataclass fields after SAM's defaults need one
    precedence_rows: Tensor = None  # type: ignore[assignment]  # [B, L] int64, -1: none
    precedence_weights: Tensor = None  # type: ignore[assignment]  # [B, L]


class SDNC(SAM):
    """One write with the mean of the heads' previous read weights, R read heads that mix content, forward and backward weights.

    link_entries K_L: entries kept in a row of each link matrix and in the precedence. Links and precedence are constants for the
    gradient; it flows through the read modes and the content weights. The mixed read keeps its K largest weights, not renormalised.
    """

    modes = 3  # a head's read modes: backward, content, forward

    def __init__(self, *, link_entries: int = 8, write_heads: int = 1, **options: Any) -> None:
        check_at_least("link_entries", link_entries, 1)
        if write_heads != 1:
            raise ValueError(f"write_heads: expected 1 (links order single writes), got {write_heads!r}")
        super().__init__(write_heads=write_heads, **options)
        self.link_entries = link_entries

    def initial_memory(self, batch: int, fill: Fill, seed: int) -> SDNCMemory:
        """SAM's start, no links, no precedence."""
        start = super().initial_memory(batch, fill, seed)
        norms = start.rows.norms
        links = LinkState.empty(batch, self.slots, self.link_entries, norms.dtype, norms.device)
        none = torch.full((batch, self.link_entries), -1, dtype=torch.int64, device=norms.device)
        weights = norms.new_zeros(batch, self.link_entries)
        return SDNCMemory(start.rows, start.index, start.weights, 0, None, links, none, weights)

    def native_start(self, memory: Any) -> tuple[dict[str, int], dict[str, Tensor], dict[str, Tensor]]:
        """SAM's, and the links."""
        sizes, buffers, start = super().native_start(memory)
        links = {name: getattr(memory.links, name) for name in ("after_columns", "after_values", "before_columns", "before_values")}
        start |= {"precedence_rows": memory.precedence_rows, "precedence": memory.precedence_weights}
        return {**sizes, "links": self.link_entries, "modes": self.modes}, {**buffers, **links}, start

    def native_end(self, memory: Any, last: dict[str, Tensor], weights: Tensor, position: int) -> Any:
        """SAM's, links and precedence."""
        precedence = last["precedence_rows"], last["precedence"]
        return SDNCMemory(memory.rows, last["read_index"], weights, position, None, memory.links, *precedence)

    def access(self, interface: Tensor, memory: SDNCMemory) -> tuple[Tensor, SDNCMemory]:  # type: ignore[override]
        """Write, link, read."""
        for_sam, modes = interface.split([interface.shape[1] - 3 * self.heads, 3 * self.heads], dim=1)
        queries, strengths, values, write_gate, mix_gate = self.split_interface(for_sam)
        with phase("write"):
            written, weights = self.write(memory, values, write_gate, mix_gate)
        with phase("link"):
            precedence = self.link(memory, written[:, 0], weights[:, 0])
            forward, backward = link_read(memory.links, memory.index, memory.weights.detach())
        found, looked_up, _ = self.look_up(memory, queries, strengths)
        with phase("addressing"):
            mode = torch.softmax(modes.unflatten(1, (self.heads, 3)), dim=-1)
            columns = torch.cat([backward[0], found, forward[0]], dim=-1)  # [B, R, S]
            parts = torch.cat([mode[..., :1] * backward[1], mode[..., 1:2] * looked_up, mode[..., 2:] * forward[1]], dim=-1)
            index, read_weights = largest_of_sum(columns, parts, self.reads)
        with phase("read"):
            reads = self.weighted_read(memory, index, read_weights)
        return reads, SDNCMemory(memory.rows, index, read_weights, memory.position, memory.current, memory.links, *precedence)

    def link(self, memory: SDNCMemory, rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Update both link matrices with the K_L largest of the write weights [B, S]; returns the new precedence (eq 10, 19, 20)."""
        weights = weights.detach()
        present = torch.where(weights > 0, rows, -1)
        columns, values = add_sparse(present[:, :-1], weights[:, :-1], present[:, -1:], weights[:, -1:])  # the unused row may be a read one
        written = largest_entries(columns, values, self.link_entries)
        undo = link_update(memory.links, (memory.precedence_rows, memory.precedence_weights), written)
        assert memory.current is not None
        if memory.current.log:
            memory.current.also.append(undo)
        decay = (1 - weights.sum(1, keepdim=True)).clamp_min(0)
        merged = add_sparse(memory.precedence_rows, memory.precedence_weights * decay, *written)
        return largest_entries(*merged, entries=self.link_entries)

    def weighted_read(self, memory: SDNCMemory, index: Tensor, weights: Tensor) -> Tensor:
        """index int64 [B, R, K] (-1: none), weights [B, R, K] -> reads [B, R, W]; rows read with more than delta count as used."""
        assert memory.current is not None
        rows = gather(memory.current, index.clamp_min(0))
        for head in range(self.heads):
            memory.rows.ring.touch(index[:, head], (weights[:, head] > DELTA) & (index[:, head] >= 0))
        return torch.einsum("brk,brkw->brw", weights, rows)

    def tape_bytes_per_step(self, batch: int) -> int:
        """SAM's, the rows read once more, the overwritten link rows and the mix over supports: independent of N."""
        item = self.output.weight.element_size()
        if self.kernels != "torch":
            reads, squares = self.heads * self.reads, 3 * self.link_entries**2
            links = (squares + self.link_entries) * (item + 4) + 4 * self.link_entries
            return super().tape_bytes_per_step(batch) + batch * (links + reads * (4 + 3 * item))
        entries, support = self.link_entries, self.reads * (1 + 2 * self.link_entries)
        links = entries * entries * (entries * item + 8) + 4 * entries * entries * item
        mix = self.heads * (self.reads * (support + self.word_size) + 3 * support) * item
        return super().tape_bytes_per_step(batch) + batch * (links + mix)


def largest_of_sum(columns: Tensor, parts: Tensor, entries: int) -> tuple[Tensor, Tensor]:
    """The `entries` largest of a sparse vector given in parts: int64 [B, R, S] with repeats and -1, [B, R, S] -> index, values [B, R, K].

    Differentiable in `parts`; a missing entry has index -1 and value 0.
    """
    same = (columns.unsqueeze(-1) == columns.unsqueeze(-2)) & (columns >= 0).unsqueeze(-1)  # [B, R, S, S]
    totals = (same * parts.detach().unsqueeze(-2)).sum(-1)
    first = same.int().argmax(-1) == torch.arange(columns.shape[-1], device=columns.device)
    best = torch.where(first & (columns >= 0), totals, 0).topk(entries, dim=-1)
    chosen = best.values > 0
    members = same.gather(-2, best.indices.unsqueeze(-1).expand(*best.indices.shape, columns.shape[-1])) & chosen.unsqueeze(-1)
    values = torch.einsum("brks,brs->brk", members.to(parts.dtype), parts)
    return torch.where(chosen, columns.gather(-1, best.indices), -1), values
