"""SAM: Sparse Access Memory (Rae et al. 2016, section 3): K reads and K + 1 writes a head and step, whatever the number of slots.

This is the readable reference, one step at a time on any device. Decisions on what the paper leaves open: docs/models.md.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.index import find_index, make_index
from mann_bench.kernels.reference import cosine_to_rows
from mann_bench.models.mann import MANN, check_at_least
from mann_bench.models.phases import phase
from mann_bench.models.sparse import native
from mann_bench.models.sparse.memory import SparseMemory, StepwisePass, follow, gather, tie, write
from mann_bench.models.state import ControllerState, Fill, MANNState, State

DELTA = 0.005  # an access with more weight than this counts as use (section 3.2)


@dataclass
class SAMMemory(State):
    """The shared memory and what the heads last read from it."""

    rows: SparseMemory
    index: Tensor  # [B, R, K] int64 rows last read, -1: none
    weights: Tensor  # [B, R, K]
    position: int  # where the shared memory stands for this state
    current: StepwisePass | None = None  # the pass being run

    @property
    def memory(self) -> Tensor:
        """The rows themselves, [B, N, W]."""
        return self.rows.memory

    def detach(self) -> "SAMMemory":
        """Cut the history; a memory that backward rolled back is brought forward again to this state."""
        self.rows.stand_at(self.position)
        return dataclasses.replace(self, weights=self.weights.detach())

    def rollback(self) -> None:
        """Undo the recorded pass that led to this state without running its backward, O(T)."""
        self.rows.rollback()


class SAM(MANN):
    """Writes go to the rows each head read last and to the least recently used row, which is wiped first; then each head reads K rows.

    heads R, reads K rows a head; write_heads: R (each head writes with its own weights) or 1 (one write with their mean).
    index: how rows near a query are found, one of `mann_bench.kernels.index.INDEXES` or a class of your own as "package.module:Class":
    "exact" scores all N rows, "live" those written since reset, the others are approximate. erase: "always" wipes the least recently used
    row every step as written in the paper, "gated" only if it is written with more than delta. strength=False is the paper's literal
    softmax of cosines.
    storage=torch.bfloat16 halves the memory; rows are computed with in the type of the parameters.
    """

    modes = 0  # further interface entries a head, for models built on this one

    def __init__(
        self,
        *,
        input_size: int,
        output_size: int,
        hidden: int = 100,
        slots: int,
        word_size: int = 32,
        heads: int = 4,
        reads: int = 4,
        index: str = "exact",
        kernels: str = "auto",
        write_heads: int | None = None,
        erase: str = "always",
        strength: bool = True,
        storage: torch.dtype | None = None,
    ) -> None:
        write_heads = heads if write_heads is None else write_heads
        check_at_least("reads", reads, 1)
        if write_heads not in (1, heads):
            raise ValueError(f"write_heads: expected 1 or heads = {heads}, got {write_heads!r}")
        for name, value, choices in (
            ("kernels", kernels, ("auto", "native", "torch")),
            ("erase", erase, ("always", "gated")),
        ):
            if value not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
        super().__init__(
            input_size=input_size,
            output_size=output_size,
            hidden=hidden,
            slots=slots,
            word_size=word_size,
            heads=heads,
            interface_size=heads * (word_size + strength + self.modes) + write_heads * (word_size + 2),
        )
        if storage not in (None, torch.bfloat16):
            raise ValueError(f"storage: expected None (as the parameters) or torch.bfloat16, got {storage!r}")
        if reads > slots:
            raise ValueError(f"reads: expected at most slots = {slots} rows a head, got {reads}")
        self.reads, self.index, self.write_heads, self.erase, self.strength = reads, index, write_heads, erase, strength
        self.kernels, self.storage, self.index_kind = kernels, storage, find_index(index)

    @property
    def backend(self) -> dict[str, str]:
        """What runs, which may differ from what was asked: kernels "native" or "torch", and the index."""
        return {"kernels": native.choose(self.kernels, self.output.weight, self.word_size, self.index_kind), "index": self.index}

    def initial_memory(self, batch: int, fill: Fill, seed: int) -> SAMMemory:
        """Nothing read yet."""
        weight = self.output.weight
        searched_by = make_index(self.index, str(weight.device))
        searched_by.native = self.kernels != "torch"
        storage = self.storage or weight.dtype
        rows = SparseMemory.create(batch, self.slots, self.word_size, fill, seed, weight.detach(), storage, searched_by)
        index = torch.full((batch, self.heads, self.reads), -1, dtype=torch.int64, device=rows.memory.device)
        return SAMMemory(rows, index, rows.norms.new_zeros(batch, self.heads, self.reads), position=0)

    def run(self, x: Tensor, state: MANNState) -> tuple[Tensor, MANNState]:
        """All steps and the output layer, in one native call where that can be."""
        if self.backend["kernels"] != "native":
            return super().run(x, state)
        with phase("sequence"):
            return native.run_uncompiled()(self, x, state)

    def unroll(self, x: Tensor, state: MANNState) -> tuple[Tensor, MANNState]:
        """All steps as one pass over the shared memory, recorded for backward if gradients are on."""
        memory: Any = state.memory
        current = memory.rows.begin(StepwisePass, memory.position, log=torch.is_grad_enabled())
        try:
            start = dataclasses.replace(memory, current=current)
            features, state = super().unroll(x, self.join(state.controller, start))
        except BaseException:  # a half-run pass would leave the memory between two states
            memory.rows.end(current)
            memory.rows.rollback()
            raise
        after, controller = state.memory, state.controller
        tied = tie(current, features, controller.hidden, controller.cell, controller.reads, after.weights)
        end = dataclasses.replace(after, weights=tied[4], position=memory.rows.end(current), current=None)
        return tied[0], self.join(ControllerState(*tied[1:4]), end)

    def native_start(self, memory: Any) -> tuple[dict[str, int], dict[str, Tensor], dict[str, Tensor]]:
        """What the native pass needs of a memory: further sizes, buffers that change in place, and states of the step before."""
        return {}, {}, {"read_index": memory.index}

    def native_end(self, memory: Any, last: dict[str, Tensor], weights: Tensor, position: int) -> Any:
        """The memory after a native pass, from the last states it returned."""
        return SAMMemory(memory.rows, last["read_index"], weights, position)

    def access(self, interface: Tensor, memory: SAMMemory) -> tuple[Tensor, SAMMemory]:
        """One step: all writes in head order, then all reads of the new memory (eq 4-9)."""
        assert memory.current is not None
        queries, strengths, values, write_gate, mix_gate = self.split_interface(interface)
        with phase("write"):
            self.write(memory, values, write_gate, mix_gate)
        index, weights, reads = self.read(memory, queries, strengths)
        return reads, SAMMemory(memory.rows, index, weights, memory.position, memory.current)

    def split_interface(self, interface: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
        """[B, P] -> queries [B, R, W], strengths [B, R], values [B, H, W], write gates alpha [B, H], mix gates gamma [B, H]."""
        heads, writers, width = self.heads, self.write_heads, self.word_size
        sizes = [heads * width, heads * self.strength, writers * width, writers, writers]
        queries, strengths, values, alpha, gamma = interface.split(sizes, dim=1)
        beta = 1 + functional.softplus(strengths) if self.strength else None
        return queries.unflatten(1, (heads, width)), beta, values.unflatten(1, (writers, width)), torch.sigmoid(alpha), torch.sigmoid(gamma)

    def write(self, memory: SAMMemory, values: Tensor, alpha: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """`w^W = alpha (gamma w^R_{t-1} + (1 - gamma) I^U)` (eq 5), erase and add (eq 8); returns support and weights [B, H, S]."""
        previous, weights = memory.index, memory.weights
        if self.write_heads < self.heads:
            previous, weights = mean_over_heads(previous, weights)
        to_read = (alpha * gamma).unsqueeze(-1) * weights  # [B, H, S]
        to_unused = alpha * (1 - gamma)  # [B, H]

        ring = memory.rows.ring
        unused = []
        for head in range(self.write_heads):
            popped = ring.pop()  # [B]
            touched = torch.cat([previous[:, head], popped[:, None]], dim=1)
            weight = torch.cat([to_read[:, head], to_unused[:, head, None]], dim=1)
            ring.touch(touched, (weight > DELTA) & (touched >= 0))
            unused.append(popped)
        least_used = torch.stack(unused, dim=1)  # [B, H]
        memory.rows.live = min(self.slots, memory.rows.live + self.write_heads)

        erased = least_used if self.erase == "always" else torch.where(to_unused > DELTA, least_used, -1)
        index = torch.cat([previous.clamp_min(0), least_used.unsqueeze(-1)], dim=2)
        weights = torch.cat([to_read, to_unused.unsqueeze(-1)], dim=2)
        assert memory.current is not None
        write(memory.current, index, weights, values, erased)
        read = torch.where(previous == least_used.unsqueeze(-1), -1, previous)  # the unused row is written once, with both its weights
        follow(memory.current, torch.cat([least_used.unsqueeze(-1), read], dim=2).flatten(1))
        return index, weights

    def read(self, memory: SAMMemory, queries: Tensor, strengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Read the K nearest rows (eq 4) -> index, weights [B, R, K], reads [B, R, W]; rows read with more than delta count as used."""
        index, weights, found = self.look_up(memory, queries, strengths)
        with phase("read"):
            for head in range(self.heads):
                memory.rows.ring.touch(index[:, head], (weights[:, head] > DELTA) & (index[:, head] >= 0))
            return index, weights, torch.einsum("brk,brkw->brw", weights, found)

    def look_up(self, memory: SAMMemory, queries: Tensor, strengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """K nearest rows a head, softmax of strength times cosine over them (eq 2) -> index, weights [B, R, K], rows [B, R, K, W]."""
        rows = memory.rows
        with phase("search"):
            index = distinct(rows.index.query(rows, queries.detach(), self.reads))
        assert memory.current is not None
        with phase("addressing"):
            found = gather(memory.current, index.clamp_min(0))  # [B, R, K, W]
            similarity = cosine_to_rows(queries, found)
            if strengths is not None:
                similarity = strengths.unsqueeze(-1) * similarity
            least = torch.finfo(similarity.dtype).min  # not -inf: an index may find nothing at all, and then nothing is read
            weights = torch.softmax(similarity.masked_fill(index < 0, least), dim=-1) * (index >= 0)
            return index, weights, found

    def controller_tape_bytes(self, batch: int) -> int:
        """As every model's; the native pass keeps gates, cell, hidden, reads and interface once."""
        if self.kernels == "torch":
            return super().controller_tape_bytes(batch)
        numbers = 6 * self.hidden + self.heads * self.word_size + self.interface.out_features
        return batch * numbers * self.output.weight.element_size()

    def tape_bytes_per_step(self, batch: int) -> int:
        """Rows gathered and overwritten, and vectors over K: independent of N."""
        item = self.output.weight.element_size()
        support = self.write_heads * (self.reads * (self.heads // self.write_heads) + 1)
        if self.kernels != "torch":
            reads = self.heads * self.reads
            return batch * (item * (support * (self.word_size + 1) + 2 * reads) + 4 * (2 * support + self.write_heads + 2 * reads))
        rows = (self.heads * self.reads + support + self.write_heads) * self.word_size
        vectors = 8 * self.heads * self.reads + 6 * support
        indexes = 8 * (4 * support + 3 * self.heads * self.reads)
        return batch * ((rows + vectors) * item + indexes)


def distinct(index: Tensor) -> Tensor:
    """Rows found, int64 [B, R, K], without those that a head has found before, which become -1."""
    same = index.unsqueeze(-1) == index.unsqueeze(-2)
    return index.masked_fill(same.tril(-1).any(-1), -1)


def mean_over_heads(index: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """One head's weights that are the mean of all heads': [B, R, K] -> [B, 1, R*K]; a row read by several heads stands once with weight."""
    rows, parts = index.flatten(1), weights.flatten(1) / index.shape[1]
    same = (rows.unsqueeze(2) == rows.unsqueeze(1)) & (rows >= 0).unsqueeze(2)  # [B, S, S]
    first = same.int().argmax(dim=2) == torch.arange(rows.shape[1], device=rows.device)
    combined = (same * parts.unsqueeze(1)).sum(2) * first
    return torch.where(first & (rows >= 0), rows, -1).unsqueeze(1), combined.unsqueeze(1)
