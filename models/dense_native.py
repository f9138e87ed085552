"""NTM, DAM and DNC run by native sequence kernels on the CPU: the same numbers as step by step."""

import functools
import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from mann_bench.kernels.native import build, call
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.sequence.dense import DensePass, Kind, dense_sequence
from mann_bench.kernels.sequence.dense_segments import Segment, SegmentedPass, segmented_sequence
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
    checkpoint: bool
    compiled: bool
    kind: Kind
    slots: int

    def native_inputs(self, memory: Any) -> DenseInputs:
        """Name the states and sizes of a pass that starts from this memory."""

    def memory_after(self, memory: Any, steps: int, states: list[Tensor], lengths: Lengths | None) -> Any:
        """Make the memory after the pass from its states."""


def may_run(model: NativeDense) -> bool:
    """Whether native kernels were asked for, or left to choose: `checkpoint` and `compiled` are ways to run torch unless they were."""
    return model.kernels == "native" or (model.kernels == "auto" and not (model.checkpoint or model.compiled))


def why_not(model: NativeDense) -> str | None:
    """Return why native kernels cannot run here, or None."""
    weight = model.output.weight
    if weight.device.type != "cpu":
        return "a dense memory has native kernels for the CPU only"
    return call.why_not(weight.device, weight.dtype, weight.dtype, model.word_size, dense=True)


def why_not_model(model: NativeDense) -> str | None:
    """Return why a model does not run on native kernels although it may, or None. On a GPU it is not to, unless they were asked for."""
    if not may_run(model) or (model.kernels == "auto" and model.output.weight.device.type == "cuda"):
        return None
    return layers.why_not(model) or why_not(model)


def choose_for(model: NativeDense) -> str:
    """Resolve what runs a model; ValueError if "native" was asked for and would not compute what the model does."""
    if not may_run(model) or layers.wrong_for(model.kernels, model):
        return "torch"
    return choose(model.kernels, why_not(model))


def to_run(model: NativeDense) -> str:
    """Say what is going to run a model. On torch's meta device, where only sizes are known, it counts as on the CPU; nothing is built."""
    if model.output.weight.device.type != "meta":
        return choose_for(model)
    return "native" if may_run(model) and not layers.why_not(model) and build.can_be_had(dense=True) else "torch"


def run(model: NativeDense, x: Tensor, state: MANNState[Any], lengths: Lengths | None = None) -> tuple[Tensor, MANNState[Any]]:
    """Run `MANN.run` as one native call, or with checkpoints one a segment: x [T, B, X] -> y [T, B, Y], state."""
    controller, weights = state.controller, layers.weights(model)
    inputs = model.native_inputs(state.memory)
    before = [controller.hidden, controller.cell, controller.reads, *inputs.states]
    taped = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *before, *weights))
    sizes = {**model_sizes(model, len(x), x.shape[1]), "taped": int(taped), "threads": torch.get_num_threads()}
    which, memory = build_for(x.dtype), state.memory
    if not (model.checkpoint and taped):
        sequence = DensePass(model.kind, which, {**sizes, **inputs.sizes}, x.device, inputs.constants, lengths)
        y, (hidden, cell, reads, *states) = dense_sequence(sequence, x, before, weights)
        after = model.memory_after(memory, len(x), states, lengths)
    else:
        segments, before_last = segments_of(model, sizes, memory, inputs, lengths)
        in_segments = SegmentedPass(model.kind, which, {**sizes, **inputs.sizes}, x.device, segments, lengths)
        y, (hidden, cell, reads, *states) = segmented_sequence(in_segments, x, before, weights)
        after = model.memory_after(before_last, segments[-1].steps, states, segments[-1].lengths)
    return y, MANNState(ControllerState(hidden, cell, reads), after)


def segments_of(
    model: NativeDense, sizes: dict[str, int], memory: Any, inputs: DenseInputs, lengths: Lengths | None
) -> tuple[list[Segment], Any]:
    """Divide a pass into segments of ceil(sqrt(T)) steps, with the sizes and constants that the memory has before each.

    Returns:
        The segments, and the memory before the last, of which only what no tensor holds is to be looked at.
    """
    steps, segments = sizes["steps"], list[Segment]()
    size = math.isqrt(steps - 1) + 1
    for first in range(0, steps, size):
        if segments:
            memory = model.memory_after(memory, size, inputs.states, segments[-1].lengths)
            inputs = model.native_inputs(memory)
        own = {**sizes, "steps": min(size, steps - first), **inputs.sizes}
        segments.append(Segment(first, own, inputs.constants, None if lengths is None else lengths.part(first, own["steps"])))
    return segments, memory


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
