"""Adam and RMSProp for training runs. Their steps are torch's own functions, and give the same bits as torch's classes.

Those classes import `torch._dynamo` when one is made: that takes several seconds of a processor in every training process, and nothing
is compiled there.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop

from mann_bench.learn.record import LearningCase


class Optimizer(ABC):
    """Parameters, and what is kept of each: `step`, a counter, and tensors of the parameter's shape, which start at 0.

    Args:
        case: has the learning rate and the momentum.
        parameters: one without a gradient is not changed, and has no state yet.
    """

    kept: tuple[str, ...]  # names of the tensors, as torch's classes call them
    counts_on_device: ClassVar[bool]  # whether a counter is on the device of its parameter, or on the CPU

    def __init__(self, case: LearningCase, parameters: Iterable[nn.Parameter]) -> None:
        self.learning_rate, self.momentum, self.parameters = case.learning_rate, case.momentum, list(parameters)
        self.states: dict[int, dict[str, Tensor]] = {}  # by the parameter's place

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients."""
        places = [place for place, parameter in enumerate(self.parameters) if parameter.grad is not None]
        parameters: list[Tensor] = [self.parameters[place] for place in places]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for place in places:
            if place not in self.states:
                self.states[place] = self._first_state(self.parameters[place])
        of = {name: [self.states[place][name] for place in places] for name in ("step", *self.kept)}
        if places:
            self._advance(parameters, gradients, of)

    @abstractmethod
    def _advance(self, parameters: list[Tensor], gradients: list[Tensor], of: dict[str, list[Tensor]]) -> None:
        """Make a step: change parameters and what is kept `of` them, by name, in place."""

    def _first_state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        count = torch.zeros((), dtype=torch.float32, device=parameter.device if self.counts_on_device else "cpu")
        return {"step": count, **{name: torch.zeros_like(parameter, requires_grad=False) for name in self.kept}}

    def state_dict(self) -> dict[str, object]:
        """What `load_state_dict` restores."""
        return {"state": self.states}

    def load_state_dict(self, stored: dict[str, Any]) -> None:
        """Restore what `state_dict`, or that of torch's class, returned.

        Raises:
            ValueError: it is of other parameters, or of another optimizer.
        """
        states: dict[int, dict[str, Tensor]] = {}
        for place, state in stored["state"].items():
            if place >= len(self.parameters) or set(state) != {"step", *self.kept}:
                raise ValueError(f"expected step, {', '.join(self.kept)} of each parameter, got {', '.join(state)} of number {place}")
            first = states[place] = self._first_state(self.parameters[place])
            if any(state[name].shape != tensor.shape for name, tensor in first.items()):
                raise ValueError(f"expected tensors of the shape of parameter {place}, {tuple(self.parameters[place].shape)}, got others")
            for name, tensor in first.items():
                tensor.copy_(state[name])
        self.states = states


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015); `momentum` is its beta_1."""

    kept = ("exp_avg", "exp_avg_sq")
    counts_on_device = True

    def _advance(self, parameters: list[Tensor], gradients: list[Tensor], of: dict[str, list[Tensor]]) -> None:
        adam(
            *(parameters, gradients, of["exp_avg"], of["exp_avg_sq"], [], of["step"]),
            fused=True,
            amsgrad=False,
            beta1=self.momentum,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=0,
            eps=1e-8,
            maximize=False,
        )


class RMSProp(Optimizer):
    """RMSProp as in Graves 2013, centred and with momentum, which the NTM and SAM papers used."""

    counts_on_device = False

    def __init__(self, case: LearningCase, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(case, parameters)
        self.kept = ("square_avg", *(("momentum_buffer",) if self.momentum else ()), "grad_avg")

    def _advance(self, parameters: list[Tensor], gradients: list[Tensor], of: dict[str, list[Tensor]]) -> None:
        rmsprop(
            *(parameters, gradients, of["square_avg"], of["grad_avg"], of.get("momentum_buffer", []), of["step"]),
            lr=self.learning_rate,
            alpha=0.95,
            eps=1e-4,
            weight_decay=0,
            momentum=self.momentum,
            centered=True,
        )


def make_optimizer(case: LearningCase, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer that a run asks for."""
    return (Adam if case.optimizer == "adam" else RMSProp)(case, parameters)
