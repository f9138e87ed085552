"""DNC: allocation, temporal links and read modes over a dense memory (Graves et al. 2016, Nature 538, Methods)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.sequence import dense
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.models.addressing import (
    allocation,
    content_weights,
    erase_and_add,
    forward_backward_weights,
    temporal_link,
    usage_update,
)
from mann_bench.models.dense_native import DenseInputs
from mann_bench.models.mann import DenseMANN
from mann_bench.models.phases import phase
from mann_bench.models.row_products import read_rows
from mann_bench.models.state import Fill, State, initial_rows


@dataclass
class DNCMemory(State):
    """Memory, usage, temporal links, and the weights of the last step."""

    memory: Tensor  # [B, N, W]
    usage: Tensor  # [B, N]
    link: Tensor  # [B, N, N] row: written after, column: written before
    precedence: Tensor  # [B, N]
    write_weights: Tensor  # [B, N]
    read_weights: Tensor  # [B, R, N]

    ledger_causes: ClassVar[Mapping[str, str]] = {"memory": "memory", "usage": "ring_and_usage", "link": "link", "precedence": "link"}


class DNC(DenseMANN[DNCMemory]):
    """One write head, R read heads, in DeepMind's published order: usage, write, link, read.

    Args:
        strength: of the keys, "oneplus" (1 + softplus, as in the paper) or "softplus" (as in DeepMind's code).
    """

    kind = dense.DNC

    def __init__(
        self,
        *,
        input_size: int,
        output_size: int,
        hidden: int = 100,
        slots: int,
        word_size: int = 32,
        heads: int = 4,
        strength: str = "oneplus",
        kernels: str = "auto",
        checkpoint: bool = False,
        compiled: bool = False,
    ) -> None:
        if strength not in ("oneplus", "softplus"):
            raise ValueError(f"strength: expected oneplus or softplus, got {strength!r}")
        super().__init__(
            input_size=input_size,
            output_size=output_size,
            hidden=hidden,
            slots=slots,
            word_size=word_size,
            heads=heads,
            interface_size=heads * word_size + 3 * word_size + 5 * heads + 3,
            kernels=kernels,
            checkpoint=checkpoint,
            compiled=compiled,
        )
        self.least_strength = 1.0 if strength == "oneplus" else 0.0

    def initial_memory(self, batch: int, fill: Fill, seed: int) -> DNCMemory:
        weight = self.output.weight
        rows = initial_rows(batch, self.slots, self.word_size, fill, seed, weight.device, weight.dtype)
        zeros = rows.new_zeros(batch, self.slots)
        link = rows.new_zeros(batch, self.slots, self.slots)
        return DNCMemory(rows, zeros, link, zeros.clone(), zeros.clone(), rows.new_zeros(batch, self.heads, self.slots))

    def memory_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        vectors = dict.fromkeys(("usage", "precedence", "write_weights"), (batch, self.slots))
        matrices = {"link": (batch, self.slots, self.slots), "read_weights": (batch, self.heads, self.slots)}
        return {**super().memory_shapes(batch), **vectors, **matrices}

    def native_inputs(self, memory: DNCMemory) -> DenseInputs:
        write_weights = memory.write_weights.unsqueeze(1)
        states = [memory.memory, memory.usage, memory.link, memory.precedence, write_weights, memory.read_weights]
        return DenseInputs(states, {"write_heads": 1, "strength": int(self.least_strength)})

    def memory_after(self, memory: DNCMemory, steps: int, states: list[Tensor], lengths: Lengths | None) -> DNCMemory:
        rows, usage, link, precedence, write_weights, read_weights = states
        return DNCMemory(rows, usage, link, precedence, write_weights[:, 0], read_weights)

    def access(self, interface: Tensor, memory: DNCMemory) -> tuple[Tensor, DNCMemory]:
        """Run one step: usage, write, link, read; the interface vector has the paper's order."""
        heads, width = self.heads, self.word_size
        sizes = [heads * width, heads, width, 1, width, width, heads, 1, 1, 3 * heads]
        keys, strengths, write_key, write_strength, erase, value, free, allocate, write, modes = interface.split(sizes, dim=1)

        with phase("addressing"):
            usage = usage_update(memory.usage, memory.write_weights, memory.read_weights, torch.sigmoid(free))
            content = content_weights(memory.memory, write_key.unsqueeze(1), self.positive(write_strength))[:, 0]
            write_weights = torch.sigmoid(write) * torch.lerp(content, allocation(usage), torch.sigmoid(allocate))
        with phase("write"):
            rows = erase_and_add(memory.memory, write_weights.unsqueeze(1), torch.sigmoid(erase).unsqueeze(1), value.unsqueeze(1))

        with phase("link"):
            link, precedence = temporal_link(memory.link, memory.precedence, write_weights)
            after, before = forward_backward_weights(link, memory.read_weights)
        with phase("addressing"):
            read_content = content_weights(rows, keys.unflatten(1, (heads, width)), self.positive(strengths))
            mode = torch.softmax(modes.unflatten(1, (heads, 3)), dim=-1).unsqueeze(-1)  # [B, R, 3, 1]: backward, content, forward
            read_weights = mode[:, :, 0] * before + mode[:, :, 1] * read_content + mode[:, :, 2] * after
        with phase("read"):
            return read_rows(read_weights, rows), DNCMemory(rows, usage, link, precedence, write_weights, read_weights)

    def positive(self, strengths: Tensor) -> Tensor:
        """Map key strengths to above 1 (`oneplus`) or above 0 (`softplus`)."""
        return self.least_strength + functional.softplus(strengths)

    def tape_bytes_per_step(self, batch: int) -> int:
        """One memory copy, one link matrix, and N-vectors: seven per read head, about twenty for usage, allocation and write."""
        per_slot = self.word_size + self.slots + 7 * self.heads + 22
        return batch * self.slots * per_slot * self.output.weight.element_size()
