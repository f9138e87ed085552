"""NTM, DAM and DNC run by native sequence kernels on the CPU: the same numbers as step by step."""

import functools
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from mann_bench.kernels.native import call
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.sequence.dense import DensePass, Kind, dense_sequence
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.models import layers
from mann_bench.models.layers import Layered, choose
from mann_bench.models.state import ControllerState, MANNState


@dataclass
class DenseInputs:
    """What a kind of model adds to a pass.

    Attributes:
        states: tensors of the memory's state, in the order of `Kind.states` and `Kind.constant`.
        sizes: by the names of `csrc/arguments.h`.
        constants: other inputs, by those names.
    """

    states: list[Tensor]
    sizes: dict[str, int]
    constants: dict[str, Tensor] = field(default_factory=dict)


class NativeDense(Layered, Protocol):
    """What a native pass needs of a model with a dense memory."""

    kernels: str
    kind: Kind
    slots: int

    def native_inputs(self, memory: Any) -> DenseInputs:
        """Name the states and sizes of a pass that starts from this memory."""

    def memory_after(self, memory: Any, steps: int, states: list[Tensor], lengths: Lengths | None) -> Any:
        """Make the memory after the pass from its states."""


def why_not(model: NativeDense) -> str | None:
    """Return why native kernels cannot run here, or None."""
    weight = model.output.weight
    if weight.device.type != "cpu":
        return "a dense memory has native kernels for the CPU only"
    return call.why_not(weight.device, weight.dtype, weight.dtype, model.word_size, dense=True)


def choose_for(model: NativeDense) -> str:
    """Resolve what runs a model; ValueError if "native" was asked for and would not compute what the model does."""
    if model.kernels != "native" or layers.wrong_for(model.kernels, model):
        return "torch"
    return choose(model.kernels, why_not(model))


def run(model: NativeDense, x: Tensor, state: MANNState[Any], lengths: Lengths | None = None) -> tuple[Tensor, MANNState[Any]]:
    """Run `MANN.run` as one native call: x [T, B, X] -> y [T, B, Y], state."""
    controller, weights = state.controller, layers.weights(model)
    inputs = model.native_inputs(state.memory)
    before = [controller.hidden, controller.cell, controller.reads, *inputs.states]
    taped = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *before, *weights))
    sizes = {
        **model_sizes(model, len(x), x.shape[1]),
        "taped": int(taped),
        "threads": torch.get_num_threads(),
        **inputs.sizes,
    }
    sequence = DensePass(model.kind, build_for(x.dtype), sizes, x.device, inputs.constants, lengths)
    y, (hidden, cell, reads, *states) = dense_sequence(sequence, x, before, weights)
    return y, MANNState(ControllerState(hidden, cell, reads), model.memory_after(state.memory, len(x), states, lengths))


def model_sizes(model: NativeDense, steps: int, batch: int) -> dict[str, int]:
    """Name the sizes of a pass that all models have."""
    return {
        "steps": steps,
        "batch": batch,
        "input_size": model.input_size,
        "output_size": model.output_size,
        "hidden": model.hidden,
        "slots": model.slots,
        "width": model.word_size,
        "heads": model.heads,
        "interface_size": model.interface_size,
    }


@functools.cache
def build_for(real: torch.dtype) -> Build:
    """The build for models of this dtype."""
    return Build(call.name_of(real), call.name_of(real), dense=True)
