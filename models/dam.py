"""DAM: Dense Access Memory, SAM's dense twin (Rae et al. 2016, section 3.2): the same writes, with read weights over all rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.sequence import dense
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.models.addressing import content_weights
from mann_bench.models.dense_native import DenseInputs
from mann_bench.models.mann import DenseMANN, check_at_least
from mann_bench.models.phases import phase
from mann_bench.models.row_products import add_to_rows_, read_rows
from mann_bench.models.state import Fill, State, initial_rows


@dataclass
class DAMMemory(State):
    """Memory, the discounted usage U(1), and the weights of the last read."""

    memory: Tensor  # [B, N, W]
    usage: Tensor  # [B, N]
    read_weights: Tensor  # [B, R, N]
    num_candidates: int  # rows 0..num_candidates-1 were written since reset: unwritten rows have usage 0, so they are used in row order
    candidates: Tensor | None = None  # [B] int64 the same of each element, where they differ; num_candidates is the most

    ledger_causes: ClassVar[Mapping[str, str]] = {"memory": "memory", "usage": "ring_and_usage"}

    def each_candidates(self) -> Tensor:
        """The candidates of each element, int64 [B]."""
        if self.candidates is not None:
            return self.candidates
        return torch.full((len(self.memory),), self.num_candidates, dtype=torch.int64, device=self.memory.device)

    def uncounted(self) -> Self:
        """The same without its candidates."""
        return dataclasses.replace(self, num_candidates=0, candidates=None)

    def with_candidates(self, candidates: Tensor) -> Self:
        """The same with other candidates."""
        low, high = (int(end) for end in candidates.aminmax())
        return dataclasses.replace(self, num_candidates=high, candidates=candidates if low < high else None)

    def put(self, elements: Tensor, other: Self) -> Self:
        candidates = self.each_candidates().index_copy(0, elements, other.each_candidates())
        return super(DAMMemory, self.uncounted()).put(elements, other.uncounted()).with_candidates(candidates)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        candidates = torch.cat([part.each_candidates() for part in parts])
        return super().join([part.uncounted() for part in parts]).with_candidates(candidates)


class DAM(DenseMANN[DAMMemory]):
    """Writes go to the rows each head read last, with its dense weights, and to the row of least usage, which is wiped first.

    The choice of the least used row carries no gradient.

    Each write head overwrites one row a step: a memory holds a sequence of T steps if N >= V T.

    Args:
        heads: R.
        write_heads: V, either R (each head writes with its own weights) or 1 (one write with their mean). Default: R.
        discount: lambda of U(1).
        strength: whether the interface has a key strength per head; without it, the paper's literal softmax of cosines.
    """

    kind = dense.DAM

    def __init__(
        self,
        *,
        input_size: int,
        output_size: int,
        hidden: int = 100,
        slots: int,
        word_size: int = 32,
        heads: int = 4,
        write_heads: int | None = None,
        discount: float = 0.99,
        strength: bool = True,
        kernels: str = "auto",
        checkpoint: bool = False,
        compiled: bool = False,
    ) -> None:
        write_heads = heads if write_heads is None else write_heads
        if write_heads not in (1, heads):
            raise ValueError(f"write_heads: expected 1 or heads = {heads}, got {write_heads!r}")
        if not 0 <= discount <= 1:
            raise ValueError(f"discount: expected a number from 0 to 1, got {discount!r}")
        check_at_least("heads", heads, 1)
        super().__init__(
            input_size=input_size,
            output_size=output_size,
            hidden=hidden,
            slots=slots,
            word_size=word_size,
            heads=heads,
            interface_size=heads * (word_size + strength) + write_heads * (word_size + 2),
            kernels=kernels,
            checkpoint=checkpoint,
            compiled=compiled,
        )
        self.write_heads, self.discount, self.strength = write_heads, discount, strength

    def initial_memory(self, batch: int, fill: Fill, seed: int) -> DAMMemory:
        weight = self.output.weight
        rows = initial_rows(batch, self.slots, self.word_size, fill, seed, weight.device, weight.dtype)
        weights = rows.new_zeros(batch, self.heads, self.slots)
        return DAMMemory(rows, rows.new_zeros(batch, self.slots), weights, self.slots if fill == "full" else 0)

    def memory_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        return {**super().memory_shapes(batch), "usage": (batch, self.slots), "read_weights": (batch, self.heads, self.slots)}

    def native_inputs(self, memory: DAMMemory) -> DenseInputs:
        sizes = {"write_heads": self.write_heads, "strength": int(self.strength), "num_candidates": memory.num_candidates}
        constants = {"discount": memory.usage.new_full((1,), self.discount)}
        if memory.candidates is not None:
            constants["counts"] = memory.candidates
        return DenseInputs([memory.memory, memory.read_weights, memory.usage], sizes, constants)

    def memory_after(self, memory: DAMMemory, steps: int, states: list[Tensor], lengths: Lengths | None) -> DAMMemory:
        rows, read_weights, usage = states
        if lengths is None and memory.candidates is None:
            return DAMMemory(rows, usage, read_weights, min(self.slots, memory.num_candidates + steps * self.write_heads))
        written = self.write_heads * (steps if lengths is None else torch.tensor(lengths.each, device=rows.device))
        candidates = (memory.each_candidates() + written).clamp_max(self.slots)
        return DAMMemory(rows, usage, read_weights, 0).with_candidates(candidates)

    def access(self, interface: Tensor, memory: DAMMemory) -> tuple[Tensor, DAMMemory]:
        """Run one step: write, then read the new memory (eq 4-9 with dense weights)."""
        writers, width = self.write_heads, self.word_size
        sizes = [self.heads * width, self.heads * self.strength, writers * width, writers, writers]
        queries, strengths, values, alpha, gamma = interface.split(sizes, dim=1)
        beta = 1 + functional.softplus(strengths) if self.strength else strengths.new_ones(len(strengths), self.heads)
        alpha, gamma = torch.sigmoid(alpha).unsqueeze(-1), torch.sigmoid(gamma).unsqueeze(-1)  # [B, V, 1]

        with phase("addressing"):
            unused = self.least_used(memory.usage)  # [B, V]
            previous = memory.read_weights if writers == self.heads else memory.read_weights.mean(1, keepdim=True)
            indicator = functional.one_hot(unused, self.slots).to(previous.dtype)  # [B, V, N]
            write_weights = alpha * torch.lerp(indicator, previous, gamma)  # eq 5
        with phase("write"):
            rows = wipe_and_add(memory.memory, unused, write_weights, values.unflatten(1, (writers, width)))

        num_candidates, candidates, absent = min(self.slots, memory.num_candidates + writers), memory.candidates, None
        if candidates is not None:
            candidates = (candidates + writers).clamp_max(self.slots)
            absent = torch.arange(num_candidates, device=rows.device) >= candidates.unsqueeze(1)
        with phase("addressing"):
            candidate_weights = content_weights(rows[:, :num_candidates], queries.unflatten(1, (self.heads, width)), beta, absent)
            read_weights = functional.pad(candidate_weights, (0, self.slots - num_candidates))
            usage = self.discount * memory.usage + (write_weights.sum(1) + read_weights.sum(1)).detach()
        with phase("read"):
            return read_rows(read_weights, rows), DAMMemory(rows, usage, read_weights, num_candidates, candidates)

    def least_used(self, usage: Tensor) -> Tensor:
        """Choose a different row for each write head, the least used first, ties to the lowest row: usage [B, N] -> int64 [B, V]."""
        remaining, rows = usage.clone(), []
        for _ in range(self.write_heads):
            rows.append(remaining.argmin(1, keepdim=True))
            remaining.scatter_(1, rows[-1], torch.inf)
        return torch.cat(rows, dim=1)

    def tape_bytes_per_step(self, batch: int) -> int:
        """One memory copy, and N-vectors: four per read head, three per write head, norms and wiped rows."""
        vectors = 4 * self.heads + 3 * self.write_heads + 3
        return batch * self.slots * (self.word_size + vectors) * self.output.weight.element_size()


def wipe_and_add(memory: Tensor, wiped: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    """Head by head, wipe its row, then add `weights * value` (eq 8); computed in two passes over the memory.

    memory [B, N, W], wiped int64 [B, V], weights [B, V, N], values [B, V, W] -> [B, N, W]. A wipe also removes what
    earlier heads added to the row.
    """
    keep = torch.ones_like(memory[:, :, 0]).scatter_(1, wiped, 0)
    heads = wiped.shape[1]
    survives = torch.ones_like(weights)
    for head in range(1, heads):
        survives[:, :head].scatter_(2, wiped[:, head].view(-1, 1, 1).expand(-1, head, 1), 0)
    added = weights * survives if heads > 1 else weights
    return add_to_rows_(memory * keep.unsqueeze(-1), added, values)
