"""What is run for a case: the model, its state, real task sequences, and one pass of training or inference."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.case import Case
from mann_bench.registry import find_model

TASK = "mann_bench.suites.tasks:associative_recall"  # by name: the core does not import the suites


class Workload:
    """A case ready to run. Sparse models keep one state: training rolls it back, inference goes on from the state returned."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.dtype: torch.dtype = getattr(torch, case.dtype)
        torch.manual_seed(case.seed)
        self.model: Any = find_model(case.model).build(case).to(case.device, self.dtype)
        begin = getattr(self.model, "initial_state", None)
        self.state: Any = begin(case.batch, fill=case.fill, seed=case.seed) if begin else None
        self.inputs, self.targets, self.mask = self.sequences(case.steps)

    def sequences(self, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs [T, B, X], targets [T, B, Y] and mask [T, B] of the task."""
        module, _, name = TASK.partition(":")
        make: Callable[..., tuple[Tensor, Tensor, Tensor]] = getattr(importlib.import_module(module), name)
        return make(self.case.batch, steps, self.case.input_size, seed=self.case.seed, device=self.case.device, dtype=self.dtype)

    def check_shape(self) -> None:
        """Run one inference pass of one step; TypeError or ValueError saying what a model must return."""
        case = self.case
        with torch.no_grad():
            returned = self.model(self.inputs[:1], self.state)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(f"model {case.model!r}: expected forward(x, state) to return (y, state), got {type(returned).__name__}")
        y, state = returned
        shape = (1, case.batch, case.output_size)
        if not isinstance(y, Tensor) or tuple(y.shape) != shape:
            got = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"model {case.model!r}: expected y of shape [T, B, Y] = {list(shape)}, got {got}")
        self.state = state if state is not None else self.state

    def forward(self, steps: int | None = None) -> tuple[Tensor, Any]:
        """One pass forward over the first `steps` steps: (y, state)."""
        x = self.inputs if steps is None else self.inputs[:steps]
        if self.case.mode == "train":
            return self.model(x, self.state)
        with torch.no_grad():
            y, self.state = self.model(x, self.state)
        return y, self.state

    def loss(self, y: Tensor) -> Tensor:
        """Mean cross-entropy in nats over the bits asked for."""
        mask = self.mask[: len(y)].unsqueeze(-1).expand_as(y)
        losses = functional.binary_cross_entropy_with_logits(y, self.targets[: len(y)], reduction="none")
        return (losses * mask).sum() / mask.sum().clamp_min(1)

    def run_pass(self) -> None:
        """What is timed: forward, and for training the loss and backward."""
        y, _ = self.forward()
        if self.case.mode == "train":
            self.loss(y).backward()

    def clear(self) -> None:
        """Between passes, not timed: gradients are freed, for every model alike."""
        self.model.zero_grad(set_to_none=True)
