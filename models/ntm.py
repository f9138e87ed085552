"""NTM: content and location addressing over a dense memory (Graves et al. 2014, "Neural Turing Machines", section 3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mann_bench.kernels.sequence import dense
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.models.addressing import content_weights, erase_and_add, interpolate, sharpen, shift_convolve
from mann_bench.models.dense_native import DenseInputs
from mann_bench.models.mann import DenseMANN, check_at_least
from mann_bench.models.phases import phase
from mann_bench.models.row_products import read_rows
from mann_bench.models.state import Fill, State, check_fill, initial_rows


@dataclass
class NTMMemory(State):
    """Memory and the weights of the last step, from which location addressing starts."""

    memory: Tensor  # [B, N, W]
    read_weights: Tensor  # [B, R, N]
    write_weights: Tensor  # [B, V, N], V write heads

    ledger_causes: ClassVar[Mapping[str, str]] = {"memory": "memory"}


class NTM(DenseMANN[NTMMemory]):
    """Within a step the write heads address and change the memory first, then the read heads address and read the new one.

    Key strength beta is a softplus, sharpening gamma 1 + softplus, gates are sigmoids. Weights start focused on row 0: with an empty
    memory and uniform weights, all rows would stay equal.

    Args:
        heads: R, read heads.
        write_heads: V.
        shifts: reach of the location shift; 1 allows -1, 0 and 1.
        learned_start: train the initial memory [N, W].
    """

    kind = dense.NTM

    def __init__(
        self,
        *,
        input_size: int,
        output_size: int,
        hidden: int = 100,
        slots: int,
        word_size: int = 32,
        heads: int = 4,
        write_heads: int = 1,
        shifts: int = 1,
        learned_start: bool = False,
        kernels: str = "auto",
        checkpoint: bool = False,
        compiled: bool = False,
    ) -> None:
        check_at_least("write_heads", write_heads, 1)
        check_at_least("shifts", shifts, 0)
        address = word_size + 3 + 2 * shifts + 1  # key, strength, gate, sharpening, shifts
        super().__init__(
            input_size=input_size,
            output_size=output_size,
            hidden=hidden,
            slots=slots,
            word_size=word_size,
            heads=heads,
            interface_size=(heads + write_heads) * address + 2 * write_heads * word_size,
            kernels=kernels,
            checkpoint=checkpoint,
            compiled=compiled,
        )
        self.write_heads, self.shifts, self.address_size = write_heads, shifts, address
        self.start = nn.Parameter(torch.randn(slots, word_size) * word_size**-0.5) if learned_start else None

    def initial_memory(self, batch: int, fill: Fill, seed: int) -> NTMMemory:
        if self.start is None:
            weight = self.output.weight
            rows = initial_rows(batch, self.slots, self.word_size, fill, seed, weight.device, weight.dtype)
        else:
            check_fill(fill)
            rows = self.start.expand(batch, -1, -1)
        # Two tensors, laid out as the weights of any later step are: a compiled step is compiled anew for other strides.
        read, write = (rows.new_zeros(batch, heads, self.slots) for heads in (self.heads, self.write_heads))
        read[:, :, 0] = write[:, :, 0] = 1
        return NTMMemory(rows, read, write)

    def memory_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        heads = {"read_weights": self.heads, "write_weights": self.write_heads}
        return {**super().memory_shapes(batch), **{name: (batch, count, self.slots) for name, count in heads.items()}}

    def native_inputs(self, memory: NTMMemory) -> DenseInputs:
        sizes = {"write_heads": self.write_heads, "shifts": self.shifts}
        return DenseInputs([memory.memory, memory.read_weights, memory.write_weights], sizes)

    def memory_after(self, memory: NTMMemory, steps: int, states: list[Tensor], lengths: Lengths | None) -> NTMMemory:
        return NTMMemory(*states)

    def access(self, interface: Tensor, memory: NTMMemory) -> tuple[Tensor, NTMMemory]:
        """Run one step: address, write, address, read ([N] eq 2-9)."""
        address_width = (self.heads + self.write_heads) * self.address_size
        addresses = interface[:, :address_width].unflatten(1, (self.heads + self.write_heads, self.address_size))
        erase, add = interface[:, address_width:].unflatten(1, (2, self.write_heads, self.word_size)).unbind(1)

        with phase("addressing"):
            write_weights = self.address(addresses[:, self.heads :], memory.memory, memory.write_weights)
        with phase("write"):
            rows = erase_and_add(memory.memory, write_weights, torch.sigmoid(erase), add)
        with phase("addressing"):
            read_weights = self.address(addresses[:, : self.heads], rows, memory.read_weights)
        with phase("read"):
            return read_rows(read_weights, rows), NTMMemory(rows, read_weights, write_weights)

    def address(self, parameters: Tensor, memory: Tensor, previous: Tensor) -> Tensor:
        """Address ([N] figure 2): parameters [B, R, address_size], memory [B, N, W], previous weights [B, R, N] -> weights [B, R, N]."""
        keys, strength, gate, gamma, shifts = parameters.split([self.word_size, 1, 1, 1, 2 * self.shifts + 1], dim=-1)
        content = content_weights(memory, keys, functional.softplus(strength[..., 0]))
        gated = interpolate(content, previous, torch.sigmoid(gate[..., 0]))
        shifted = shift_convolve(gated, torch.softmax(shifts, dim=-1))
        return sharpen(shifted, 1 + functional.softplus(gamma[..., 0]))

    def tape_bytes_per_step(self, batch: int) -> int:
        """One memory copy, and N-vectors: eight per head (content, gated, three shifted, log, power, weights), four of the memory."""
        vectors = (self.heads + self.write_heads) * (5 + 2 * self.shifts + 1) + 4
        return batch * self.slots * (self.word_size + vectors) * self.output.weight.element_size()
