"""SDNC: SAM with the DNC's temporal links kept row-sparse (Rae et al. 2016, supplement D): O(K_L^2) a step and no N x N anything."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mann_bench.kernels.reference import SparseLinks, add_sparse, largest_entries, largest_first, link_read, link_update
from mann_bench.models.mann import check_at_least
from mann_bench.models.phases import phase
from mann_bench.models.sam import SAM
from mann_bench.models.sparse import native
from mann_bench.models.sparse.access import RowsFound
from mann_bench.models.sparse.state import SAMMemory
from mann_bench.models.state import Fill, State


@dataclass
class LinkState(SparseLinks, State):
    """The link matrices as part of a state: changed in place and rolled back with the memory."""


@dataclass(kw_only=True)
class SDNCMemory(SAMMemory):
    """SAM's memory, the links, and the precedence as a sparse vector."""

    links: LinkState
    precedence_rows: Tensor  # [B, L] int64, -1: none
    precedence_weights: Tensor  # [B, L]

    ledger_causes: ClassVar[Mapping[str, str]] = {
        **SAMMemory.ledger_causes,
        **dict.fromkeys(("links", "precedence_rows", "precedence_weights"), "link"),
    }

    def row_lists(self) -> dict[str, Tensor]:
        return {**super().row_lists(), "precedence_rows": self.precedence_rows}

    def weight_lists(self) -> dict[str, Tensor]:
        return {**super().weight_lists(), "precedence_weights": self.precedence_weights}

    def tables(self) -> list[tuple[Tensor, float]]:
        links = self.links
        return [(links.after_columns, -1), (links.after_values, 0), (links.before_columns, -1), (links.before_values, 0)]


class SDNC(SAM):
    """One write with the mean of the heads' previous read weights; R read heads that mix content, forward and backward weights.

    Links and precedence are constants for the gradient; it flows through the read modes and the content weights. The mixed read keeps its K
    largest weights, not renormalised.

    Args:
        link_entries: K_L (L in shapes), entries kept in a row of each link matrix and in the precedence.
        write_heads: 1; links order single writes.
        options: as of `SAM`.
    """

    modes = 3  # a head's read modes: backward, content, forward

    def __init__(self, *, link_entries: int = 8, write_heads: int = 1, **options: Any) -> None:
        check_at_least("link_entries", link_entries, 1)
        if write_heads != 1:
            raise ValueError(f"write_heads: expected 1 (links order single writes), got {write_heads!r}")
        super().__init__(write_heads=write_heads, **options)
        self.link_entries = link_entries

    def initial_memory(self, batch: int, fill: Fill, seed: int) -> SDNCMemory:
        memory = super().initial_memory(batch, fill, seed)
        norms = memory.rows.norms
        return SDNCMemory(
            **vars(memory),
            links=LinkState.empty(batch, self.slots, self.link_entries, norms.dtype, norms.device),
            precedence_rows=torch.full((batch, self.link_entries), -1, dtype=torch.int64, device=norms.device),
            precedence_weights=norms.new_zeros(batch, self.link_entries),
        )

    def memory_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        links, precedence = (batch, self.slots, self.link_entries), (batch, self.link_entries)
        matrices = ("links.after_columns", "links.after_values", "links.before_columns", "links.before_values")
        vectors = ("precedence_rows", "precedence_weights")
        return {**super().memory_shapes(batch), **dict.fromkeys(matrices, links), **dict.fromkeys(vectors, precedence)}

    def native_inputs(self, memory: SAMMemory) -> native.ModelInputs:
        assert isinstance(memory, SDNCMemory)
        inputs = super().native_inputs(memory)
        return native.ModelInputs(
            sizes={**inputs.sizes, "links": self.link_entries, "modes": self.modes},
            buffers={**inputs.buffers, **vars(memory.links)},
            constant_states={
                **inputs.constant_states,
                "precedence_rows": memory.precedence_rows,
                "precedence": memory.precedence_weights,
            },
        )

    def memory_after(self, memory: SAMMemory, constant_states: Mapping[str, Tensor], weights: Tensor, position: int) -> SDNCMemory:
        assert isinstance(memory, SDNCMemory)
        return SDNCMemory(
            **vars(super().memory_after(memory, constant_states, weights, position)),
            links=memory.links,
            precedence_rows=constant_states["precedence_rows"],
            precedence_weights=constant_states["precedence"],
        )

    def access(self, interface: Tensor, memory: SAMMemory) -> tuple[Tensor, SDNCMemory]:
        """Run one step: write, link, read."""
        assert isinstance(memory, SDNCMemory)
        interface = memory.running.masked(interface)
        sam_interface, modes = interface.split([interface.shape[1] - 3 * self.heads, 3 * self.heads], dim=1)
        queries, strengths, values, write_gate, mix_gate = self.split_interface(sam_interface)
        with phase("write"):
            written, weights = self.write(memory, values, write_gate, mix_gate)
        with phase("link"):
            precedence_rows, precedence_weights = self.link(memory, written[:, 0], weights[:, 0])
            forward, backward = link_read(memory.links, memory.index, memory.weights.detach())
        content_rows, content_weights, _ = self.content_lookup(memory, queries, strengths)
        with phase("addressing"):
            mode = torch.softmax(modes.unflatten(1, (self.heads, 3)), dim=-1)
            rows = torch.cat([backward[0], content_rows, forward[0]], dim=-1)  # [B, R, S]
            parts = torch.cat([mode[..., :1] * backward[1], mode[..., 1:2] * content_weights, mode[..., 2:] * forward[1]], dim=-1)
            index, read_weights = largest_of_sum(rows, parts, self.reads)
        with phase("read"):
            reads = self.weighted_read(memory, index, read_weights)
        after = dataclasses.replace(
            memory, index=index, weights=read_weights, precedence_rows=precedence_rows, precedence_weights=precedence_weights
        )
        return reads, after

    def link(self, memory: SDNCMemory, rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Update both link matrices with the K_L largest write weights (eq 10, 19, 20).

        Args:
            rows: int64 [B, S] that were written, -1: none.
            weights: [B, S].

        Returns:
            Rows int64 [B, L] and weights [B, L] of the new precedence.
        """
        weights = torch.where(rows < 0, 0, weights.detach())
        # The last entry is the least used row, which may be one of the rows read.
        columns, values = add_sparse(rows[:, :-1], weights[:, :-1], rows[:, -1:], weights[:, -1:])
        written = largest_entries(columns, values, self.link_entries)
        preceding = memory.precedence_rows
        if (idle := memory.running.idle) is not None:  # no row of its links changes
            preceding, written = preceding.masked_fill(idle[:, None], -1), (written[0].masked_fill(idle[:, None], -1), written[1])
        undo = link_update(memory.links, (preceding, memory.precedence_weights), written)
        if memory.running.recorded:
            memory.running.side_changes.append(undo)
        decay = (1 - weights.sum(1, keepdim=True)).clamp_min(0)
        merged = add_sparse(memory.precedence_rows, memory.precedence_weights * decay, *written)
        return largest_entries(*merged, entries=self.link_entries)

    def weighted_read(self, memory: SDNCMemory, index: Tensor, weights: Tensor) -> Tensor:
        """Read rows int64 [B, R, K] (-1: none) with weights [B, R, K] -> [B, R, W]; rows read with more than delta count as used."""
        rows = RowsFound(memory.running, index)
        self.touch_read(memory, index, weights)
        return rows.read(torch.where(index < 0, 0, weights))

    def tape_bytes_per_step(self, batch: int) -> int:
        """Predict as SAM does, plus rows read once more, overwritten link rows and the mixed read: independent of N."""
        item = self.output.weight.element_size()
        if self.kernels != "torch":
            reads, squares = self.heads * self.reads, 3 * self.link_entries**2
            links = (squares + self.link_entries) * (item + 4) + 4 * self.link_entries
            return super().tape_bytes_per_step(batch) + batch * (links + reads * (4 + 3 * item))
        entries, support = self.link_entries, self.reads * (1 + 2 * self.link_entries)
        links = entries * entries * (entries * item + 8) + 4 * entries * entries * item
        read = self.reads * self.word_size if self.snapshot == "exact" else 0
        mix = self.heads * ((read + 4 * support) * item + self.reads * support)
        return super().tape_bytes_per_step(batch) + batch * (links + mix)


def largest_of_sum(rows: Tensor, parts: Tensor, entries: int) -> tuple[Tensor, Tensor]:
    """Sum a sparse vector given in parts and keep its `entries` largest values (`largest_first`); differentiable in `parts`.

    Args:
        rows: int64 [B, R, S], with repeats; -1: no entry.
        parts: [B, R, S], to be summed over equal rows.

    Returns:
        Index int64 [B, R, K] and values [B, R, K]; a missing entry has index -1 and value 0.
    """
    same = (rows.unsqueeze(-1) == rows.unsqueeze(-2)) & (rows >= 0).unsqueeze(-1)  # [B, R, S, S]
    totals = torch.where(same, parts.detach().unsqueeze(-2), 0).sum(-1)
    first = same.int().argmax(-1) == torch.arange(rows.shape[-1], device=rows.device)
    totals = torch.where(first & (rows >= 0), totals, 0)
    best = largest_first(totals, rows, entries)
    present = ~(totals.gather(-1, best) <= 0)
    addends = same.gather(-2, best.unsqueeze(-1).expand(*best.shape, rows.shape[-1])) & present.unsqueeze(-1)
    added = torch.where(addends, parts.unsqueeze(-2), 0)  # a product with 0 would spread NaN
    values = torch.einsum("brks,brs->brk", added, torch.ones_like(parts))
    return torch.where(present, rows.gather(-1, best), -1), values
