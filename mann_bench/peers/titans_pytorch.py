"""`titans-pytorch`: the memory is the weights of a small network, changed by a gradient step a token (arXiv 2501.00663).

The package can also step a chunk at a time. But then a call that begins inside a chunk fails in the package itself, so no state can go on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.models.phases import phase
from mann_bench.models.state import State
from mann_bench.peers.peer import PeerLayer, item_bytes


@dataclass
class Weights(State):
    """The weights of the network of each head."""

    gamma: Tensor  # [B, R, W] of its layer norm
    inner: Tensor  # [B, R, W, N/2]
    outer: Tensor  # [B, R, N/2, W]


@dataclass
class TitansState(State):
    """Where the weights began, the sum of their changes, and its momentum."""

    start: Weights
    change: Weights
    momentum: Weights
    tokens: int  # seen so far

    ledger_causes: ClassVar[Mapping[str, str]] = {"start": "memory", "change": "memory", "momentum": "memory"}


class Titans(PeerLayer):
    """`NeuralMemory` of the package, with a network of two layers a head: W -> N/2 -> W.

    Args:
        slots: N >= 2: the two matrices of a head have N rows of W numbers together, one less if N is odd. They are no slots: each token
            uses all.
        heads: R.
    """

    package = "titans-pytorch"
    needs_modules = ("titans_pytorch", "assoc_scan", "einops", "einx", "tensordict", "tqdm")
    dtypes = ("float32",)
    ledger_causes: ClassVar[Mapping[str, str]] = {f"layer.memory_model_parameters.{number}": "memory" for number in range(3)}

    def __init__(self, *, input_size: int, output_size: int, slots: int, word_size: int = 32, heads: int = 4) -> None:
        check(slots)
        self.heads = heads
        width = heads * word_size
        # A factor from which the package's int() makes N/2 whatever the rounding.
        network = self.imported("titans_pytorch", "MemoryMLP")(word_size, depth=2, expansion_factor=(slots // 2 + 0.5) / word_size)
        layer = self.imported("titans_pytorch", "NeuralMemory")(dim=width, heads=heads, dim_head=word_size, chunk_size=1, model=network)
        for parameter in layer.memory_model_parameters:  # views that the heads share, which no optimiser can change
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        super().__init__(layer, input_size=input_size, inner_size=width, output_size=output_size)

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int]:
        """The learned start (twice: the package keeps the network that it was made from), the state, and new weights of every step."""
        check(case.slots)
        one = case.slots * case.word_size * item_bytes(case)
        all_heads = case.heads * one
        of_batch = case.batch * all_heads
        prediction = {"parameters": one, "memory": all_heads + 3 * of_batch}
        if case.mode == "train":
            return prediction | {"tape": 8 * case.steps * of_batch, "workspace": 6 * case.steps * of_batch}
        return prediction | {"workspace": 9 * case.steps * of_batch}

    def forward(self, x: Tensor, state: TitansState | None = None) -> tuple[Tensor, TitansState]:
        """Run x [T, B, X] -> y [T, B, Y] and the state after it; without a state the network begins with its learned weights."""
        inner = self.project(x)
        with phase("sequence"):
            inner, after = self.layer(inner, state=None if state is None else self.packed(state))
        change, momentum = after.states
        of_first_order = {name: tensor[0] for name, tensor in momentum.items()}
        state = TitansState(
            self.weights(after.weights),
            self.weights(change),
            self.weights(of_first_order),
            after.seq_index,
        )
        return self.answer(inner), state

    def weights(self, tensors: Mapping[str, Tensor]) -> Weights:
        """Copy the package's weights, which are views of tensors that hold those of every step, and split their axis of batch and heads."""
        return Weights(*(tensors[name].unflatten(0, (-1, self.heads)).clone() for name in self.names))

    def packed(self, state: TitansState) -> tuple[object, ...]:
        """The state as the package takes it; it does not read the last entry."""

        def joined(weights: Weights) -> dict[str, Tensor]:
            return {name: tensor.flatten(0, 1) for name, tensor in zip(self.names, weights.tensors(), strict=True)}

        table = self.imported("tensordict", "TensorDict")
        momentum = {name: tensor.unsqueeze(0) for name, tensor in joined(state.momentum).items()}
        states = (table(joined(state.change)), table(momentum))
        return (state.tokens, table(joined(state.start)), None, states, None)

    @property
    def names(self) -> Sequence[str]:
        """The package's names of gamma, inner and outer."""
        names: Any = self.layer.memory_model_parameter_names
        return tuple(names)


def check(slots: int) -> None:
    """ValueError unless each matrix has something."""
    if slots < 2:
        raise ValueError(f"slots: expected at least 2, for two matrices, got {slots}")
