"""DeltaNet: the gated delta rule (Yang et al. 2024) with a state of fixed size a head: the floor of what slots are compared with.

S <- exp(g) S;   S <- S + beta k (v - S^T k)^T;   y = S^T q          |k| = |q| = 1
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.models.mann import check_at_least
from mann_bench.models.phases import phase
from mann_bench.models.projected import ProjectedMANN
from mann_bench.models.slots.gates import Gates
from mann_bench.models.state import Fill, State, initial_rows


@dataclass
class DeltaNetMemory(State):
    """The state S of each head."""

    memory: Tensor  # [B, R, D, W], D: key_size

    ledger_causes: ClassVar[Mapping[str, str]] = {"memory": "memory"}


class DeltaInputs(NamedTuple):
    """What a step does to the state, for some steps or for one."""

    keys: Tensor  # [.., B, R, D] of norm 1
    queries: Tensor  # [.., B, R, D] of norm 1
    values: Tensor  # [.., B, R, W]
    decay: Tensor  # [.., B, R] g, the logarithm of what is kept
    strength: Tensor  # [.., B, R] beta


class DeltaNet(ProjectedMANN[DeltaNetMemory, DeltaInputs]):
    """Each head keeps a matrix from keys to values, corrects it at every step, and reads it. It has no slots, so no N.

    Args:
        heads: R.
        word_size: W, width of values.
        key_size: D, width of keys; by default W.
        controller: "none": projections of the input make what a step needs; "lstm": an LSTM does, wired as in SAM.
        hidden: H, with controller="lstm".
    """

    def __init__(
        self,
        *,
        input_size: int,
        output_size: int,
        hidden: int = 100,
        word_size: int = 32,
        heads: int = 4,
        key_size: int | None = None,
        controller: str = "none",
    ) -> None:
        key_size = word_size if key_size is None else key_size
        for name, size in (("heads", heads), ("word_size", word_size), ("key_size", key_size)):
            check_at_least(name, size, 1)
        self.key_size = key_size
        super().__init__(
            controller=controller,
            input_size=input_size,
            output_size=output_size,
            hidden=hidden,
            slots=key_size,  # rows of S
            word_size=word_size,
            heads=heads,
            interface_size=heads * (2 * key_size + word_size + 2),
        )
        self.gates = Gates(heads)

    def initial_memory(self, batch: int, fill: Fill, seed: int) -> DeltaNetMemory:
        weight = self.output.weight
        rows = initial_rows(batch, self.heads * self.key_size, self.word_size, fill, seed, weight.device, weight.dtype)
        return DeltaNetMemory(rows.view(batch, self.heads, self.key_size, self.word_size))

    def memory_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        return {"memory": (batch, self.heads, self.key_size, self.word_size)}

    def prepare(self, interface: Tensor) -> DeltaInputs:
        """Split interface vectors [.., B, P]."""
        heads, keys, width = self.heads, self.heads * self.key_size, self.heads * self.word_size
        key, query, value, decay, strength = interface.split([keys, keys, width, heads, heads], dim=-1)
        decay, strength = self.gates(decay, strength)
        return DeltaInputs(
            keys=functional.normalize(key.unflatten(-1, (heads, self.key_size)), dim=-1),
            queries=functional.normalize(query.unflatten(-1, (heads, self.key_size)), dim=-1),
            values=value.unflatten(-1, (heads, self.word_size)),
            decay=decay,
            strength=strength,
        )

    def apply_step(self, prepared: DeltaInputs, memory: DeltaNetMemory) -> tuple[Tensor, DeltaNetMemory]:
        """Decay, correct, read. For backward one state a step is kept, as the decayed one is not made before it is corrected."""
        keys, queries, values, decay, strength = prepared
        state, share = memory.memory, decay.exp().unsqueeze(-1)
        with phase("write"):
            found = share * torch.einsum("brkw,brk->brw", state, keys)
            change = strength.unsqueeze(-1) * (values - found)
            state = share.unsqueeze(-1) * state + keys.unsqueeze(-1) * change.unsqueeze(-2)
        with phase("read"):
            return torch.einsum("brkw,brk->brw", state, queries), DeltaNetMemory(state)

    def tape_bytes_per_step(self, batch: int) -> int:
        """One state a step, and vectors over keys and values."""
        numbers = self.key_size * self.word_size + 5 * self.key_size + 4 * self.word_size + 6
        return batch * self.heads * numbers * self.output.weight.element_size()
