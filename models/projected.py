"""Memories that need no controller: projections of the input take its place, unless an LSTM is asked for.

controller="none":  interface(x_t) -> access -> r_t;   y_t = W_y r_t                  all projections of a sequence are made at once
controller="lstm":  as of `MANN`, so that a memory can be compared with SAM wired alike
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from mann_bench.models.mann import MANN, check_at_least
from mann_bench.models.phases import phase, steps
from mann_bench.models.state import ControllerState, M, MANNState

BLOCK_STEPS = 64  # steps whose projections are held at a time

A = TypeVar("A", bound=NamedTuple)


class ProjectedMANN(MANN[M], Generic[M, A]):
    """Base of the models whose step is `prepare`, which the memory has no part in, and `apply`. A: what `prepare` makes.

    Args:
        controller: "none": projections of the input; "lstm": an LSTM that also receives the last reads.
        hidden: H, units of the LSTM; without one no effect.
        sizes: as of `MANN`.

    Attributes:
        ledger_causes: parameters that the memory ledger counts under another cause than "parameters", by name.
        sparse: whether the gradient of a table is a sparse tensor.
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {}
    sparse = False

    def __init__(self, *, controller: str = "none", hidden: int = 100, **sizes: int) -> None:
        if controller not in ("none", "lstm"):
            raise ValueError(f"controller: expected one of none, lstm, got {controller!r}")
        self.projected = controller == "none"
        super().__init__(hidden=hidden, **sizes)

    def check_slots(self, slots: int, heads: int) -> None:
        check_at_least("slots", slots, 1)  # of each head

    def make_layers(self) -> None:
        if not self.projected:
            super().make_layers()
        else:
            self.hidden = 0
            self.interface = nn.Linear(self.input_size, self.interface_size)
            self.output = nn.Linear(self.heads * self.word_size, self.output_size)
        for layer in (self.interface, self.output):
            std = layer.in_features**-0.5
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(layer.bias)

    @abstractmethod
    def prepare(self, interface: Tensor) -> A:
        """Make of interface vectors [T, B, P] or [B, P] what a step needs; all tensors begin with these axes."""

    @abstractmethod
    def apply_step(self, prepared: A, memory: M) -> tuple[Tensor, M]:
        """Run one step on what `prepare` made of it -> reads [B, R, W] and the memory."""

    def access(self, interface: Tensor, memory: M) -> tuple[Tensor, M]:
        return self.apply_step(self.prepare(interface), memory)

    def inputs_of_steps(self, x: Tensor) -> Iterator[Tensor | A]:
        """What each step takes: x_t [B, X] before a controller, or what `prepare` makes of it without one, some steps at a time."""
        if not self.projected:
            yield from steps(x)
            return
        for part in x.split(BLOCK_STEPS):
            with phase("controller"):
                interface = self.interface(part)
            prepared = self.prepare(interface)
            yield from steps(type(prepared)(*step) for step in zip(*(tensor.unbind(0) for tensor in prepared), strict=True))

    def step(self, x_t: Tensor | A, controller: ControllerState, memory: M) -> tuple[ControllerState, M]:
        """Run one time step on what `inputs_of_steps` made of it."""
        if isinstance(x_t, Tensor):
            return super().step(x_t, controller, memory)
        reads, memory = self.apply_step(x_t, memory)
        return ControllerState(controller.hidden, controller.cell, reads), memory

    def unroll(self, x: Tensor, state: MANNState[M]) -> tuple[Tensor, MANNState[M]]:
        controller, memory = state.controller, state.memory
        features = []
        for inputs in self.inputs_of_steps(x):
            controller, memory = self.step(inputs, controller, memory)
            features.append(torch.cat([controller.hidden, controller.reads.flatten(1)], dim=-1))
        return torch.stack(features), MANNState(controller, memory)

    @property
    def table(self) -> Tensor | None:
        """The parameter whose rows are memory, if there is one."""
        return None

    def touched_rows(self, batch: int) -> int:
        """Rows of the table that a step touches."""
        return 0

    def memory_bytes(self, batch: int, steps: int, mode: str) -> dict[str, int]:
        """Predict as `MANN` does; a table counts as memory, and of its gradient, if that is sparse, the rows touched."""
        prediction, table = super().memory_bytes(batch, steps, mode), self.table
        if table is None:
            return prediction
        item = table.element_size()
        prediction["parameters"] -= table.numel() * item
        prediction["memory"] = table.numel() * item
        if mode == "train" and self.sparse:
            prediction["gradients"] += steps * self.touched_rows(batch) * (table.shape[-1] * item + 16) - table.numel() * item
        return prediction

    def controller_tape_bytes(self, batch: int) -> int:
        """Predict the bytes a step that LSTM cell and linear layers save for backward; the interface is not kept."""
        reads = self.heads * self.word_size
        numbers = reads if self.projected else self.input_size + 2 * reads + 11 * self.hidden
        return batch * numbers * self.output.weight.element_size()
