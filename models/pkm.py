"""PKM: product-key memory (Lample et al. 2019): a table of values is a parameter, read by product keys. Forward writes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mann_bench.kernels.reference import search
from mann_bench.models.mann import check_at_least
from mann_bench.models.phases import phase, steps
from mann_bench.models.projected import BLOCK_STEPS, ProjectedMANN
from mann_bench.models.slots.product_keys import scores_of, sides_of
from mann_bench.models.state import ControllerState, Fill, MANNState, State


@dataclass
class PKMMemory(State):
    """Nothing: the table belongs to the model."""


class Lookup(NamedTuple):
    """What is read, for some steps or for one."""

    slots: Tensor  # [.., B, R, K] int64
    weights: Tensor  # [.., B, R, K]


class PKM(ProjectedMANN[PKMMemory, Lookup]):
    """Each head reads the K slots of one table that its query scores highest, through two sets of keys of its own.

    Args:
        slots: N rows of the table, which the heads share: a perfect square.
        heads: R.
        reads: K.
        key_size: width of a query, even: each half is compared with the keys of a factor. By default the least even number >= W.
        controller: "none": projections of the input make what a step needs; "lstm": an LSTM does, wired as in SAM.
        hidden: H, with controller="lstm".
        sparse: whether the gradient of the table is a sparse tensor of the rows read; a dense one costs O(N) a pass.
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {"values": "memory"}

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
        key_size: int | None = None,
        controller: str = "none",
        sparse: bool = True,
    ) -> None:
        for name, count in (("slots", slots), ("heads", heads), ("word_size", word_size), ("reads", reads)):
            check_at_least(name, count, 1)
        key_size = 2 * (-(-word_size // 2)) if key_size is None else key_size
        check_at_least("key_size", key_size, 2)
        if key_size % 2:
            raise ValueError(f"key_size: expected an even number, for two halves, got {key_size}")
        self.sides = sides_of(slots, 2)
        if reads > slots:
            raise ValueError(f"reads: expected at most slots = {slots}, got {reads}")
        self.reads, self.key_size, self.sparse = reads, key_size, sparse
        super().__init__(
            controller=controller,
            input_size=input_size,
            output_size=output_size,
            hidden=hidden,
            slots=slots,
            word_size=word_size,
            heads=heads,
            interface_size=heads * key_size,
        )
        self.keys = nn.Parameter(torch.randn(heads, 2, self.sides[0], key_size // 2) * (key_size // 2) ** -0.5)
        self.values = nn.Parameter(torch.randn(slots, word_size) * word_size**-0.5)

    def initial_memory(self, batch: int, fill: Fill, seed: int) -> PKMMemory:
        """Nothing; `fill` and `seed` have no effect, as the table belongs to the model."""
        return PKMMemory()

    def memory_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        return {}

    @property
    def table(self) -> Tensor:
        return self.values

    def touched_rows(self, batch: int) -> int:
        return batch * self.heads * self.reads

    def prepare(self, interface: Tensor) -> Lookup:
        """Find the slots of queries [.., B, P] and weigh them by a softmax of their scores."""
        queries = interface.unflatten(-1, (self.heads, 2, self.key_size // 2))
        with phase("search"):
            scores = torch.einsum("...hfd,hfnd->...hfn", queries, self.keys).flatten(-2)
            slots = search(scores, self.sides, self.reads)
        with phase("addressing"):
            return Lookup(slots, torch.softmax(scores_of(scores, self.sides, slots), dim=-1))

    def apply_step(self, prepared: Lookup, memory: PKMMemory) -> tuple[Tensor, PKMMemory]:
        return self.look_up(prepared), memory

    def look_up(self, found: Lookup) -> Tensor:
        """Read the table: [.., B, R, W]. For backward only slots and weights are kept."""
        with phase("read"):
            weights = found.weights.flatten(0, -2)
            rows = functional.embedding_bag(
                found.slots.flatten(0, -2), self.values, per_sample_weights=weights, mode="sum", sparse=self.sparse
            )
            return rows.view(*found.slots.shape[:-1], self.word_size)

    def unroll(self, x: Tensor, state: MANNState[PKMMemory]) -> tuple[Tensor, MANNState[PKMMemory]]:
        """Run all steps; without a controller none waits for another, so some are looked up at a time."""
        if not self.projected:
            return super().unroll(x, state)
        reads = torch.cat([self.look_up(self.prepare(self.interface(part))) for part in steps(x.split(BLOCK_STEPS))])
        controller = ControllerState(state.controller.hidden, state.controller.cell, reads[-1])
        return reads.flatten(2), MANNState(controller, state.memory)

    def tape_bytes_per_step(self, batch: int) -> int:
        """Queries, slots and weights: independent of N."""
        item = self.output.weight.element_size()
        return batch * self.heads * ((self.key_size + 2 * self.reads) * item + 8 * 4 * self.reads)
