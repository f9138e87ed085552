"""MANN: an LSTM controller, a memory and an output layer, wired as Rae et al. 2016, section 3.3 and figure 6.

    x_t, r_{t-1} -> LSTM -> h_t;   interface(h_t) -> memory access -> r_t;   y_t = W_y [h_t, r_t]

A model is this wiring and one method, `access`: what the interface vector does to the memory and what it reads.
"""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Generic

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mann_bench.kernels.sequence.dense import Kind, tape_shapes
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.models import dense_native, layers
from mann_bench.models.modes import input_for, ordinary, uncompiled
from mann_bench.models.padded import check_elements, check_lengths
from mann_bench.models.phases import phase, steps
from mann_bench.models.state import ControllerState, Fill, M, MANNState


class MANN(nn.Module, ABC, Generic[M]):
    """Base of the memory-augmented models; M is the type of the memory in their state.

    Args:
        input_size: X.
        output_size: Y.
        hidden: H, units of the controller.
        slots: N, rows of the memory.
        word_size: W, width of a row.
        heads: R, read heads.
        interface_size: P, width of the vector that `access` takes.

    Raises:
        ValueError: names the argument, what was expected and what came.
    """

    checks_in_run = False  # whether `run` checks the parts of the state: native kernels check the tensors of a call anyway

    def __init__(
        self, *, input_size: int, output_size: int, hidden: int, slots: int, word_size: int, heads: int, interface_size: int
    ) -> None:
        super().__init__()
        sizes = {"input_size": input_size, "output_size": output_size, "hidden": hidden, "word_size": word_size, "heads": heads}
        for name, size in sizes.items():
            check_at_least(name, size, 1)
        self.check_slots(slots, heads)
        self.input_size, self.output_size, self.hidden = input_size, output_size, hidden
        self.slots, self.word_size, self.heads, self.interface_size = slots, word_size, heads, interface_size
        self.make_layers()

    def check_slots(self, slots: int, heads: int) -> None:
        """ValueError unless the memory may have so many slots."""
        check_at_least("slots", slots, 2 * heads, "two a head, so that a write and a read can differ")

    def make_layers(self) -> None:
        """Make controller, interface and output layer."""
        self.controller = nn.LSTMCell(self.input_size + self.heads * self.word_size, self.hidden)
        self.interface = nn.Linear(self.hidden, self.interface_size)
        self.output = nn.Linear(self.hidden + self.heads * self.word_size, self.output_size)

    @abstractmethod
    def initial_memory(self, batch: int, fill: Fill, seed: int) -> M:
        """Make the memory of `initial_state`."""

    @abstractmethod
    def access(self, interface: Tensor, memory: M) -> tuple[Tensor, M]:
        """Run one step: interface [B, P] and memory of t-1 -> reads [B, R, W] and memory of t."""

    @abstractmethod
    def tape_bytes_per_step(self, batch: int) -> int:
        """Predict the bytes that one step of `access` saves for backward."""

    def initial_state(self, batch: int, fill: Fill = "empty", seed: int = 0) -> MANNState[M]:
        """Make a state for a batch, on the model's device and in its dtype.

        Args:
            fill: "empty" for a memory of zeros, "full" for random rows.
            seed: of the random rows.
        """
        check_at_least("batch", batch, 1)
        weight = self.output.weight
        with ordinary(weight.device):
            controller = ControllerState(
                hidden=weight.new_zeros(batch, self.hidden),
                cell=weight.new_zeros(batch, self.hidden),
                reads=weight.new_zeros(batch, self.heads, self.word_size),
            )
            return MANNState(controller.detach(), self.initial_memory(batch, fill, seed))

    def reset_state(self, state: MANNState[M], elements: Tensor | Sequence[int], fill: Fill = "empty", seed: int = 0) -> MANNState[M]:
        """Set some batch elements to what `initial_state` gives them; the others go on. Copies the state, as a step does.

        Args:
            elements: their numbers, or a mask bool [B].
            fill: as of `initial_state`.
            seed: as of `initial_state`.
        """
        chosen, device = self.chosen(state, elements), self.output.weight.device
        if not chosen:
            return state
        with ordinary(device):
            which = torch.tensor(chosen, device=device)
            fresh = self.initial_state(len(chosen))
            if fill != "empty":  # which random rows an element has depends on its place
                fresh = self.initial_state(len(state.controller.hidden), fill, seed).map(lambda tensor: tensor[which])
            return state.put(which, fresh)

    def chosen(self, state: object, elements: Tensor | Sequence[int]) -> list[int]:
        """Check a state and the elements of it that `reset_state` is given; returns their numbers."""
        batch = len(state.controller.hidden) if isinstance(state, MANNState) else 1
        self.check_state(state, self.output.weight.new_empty(0, batch))
        return check_elements(elements, batch)

    def forward(
        self, x: Tensor, state: MANNState[M] | None = None, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, MANNState[M]]:
        """Run a sequence: x [T, B, X] -> y [T, B, Y] and the state after the last step; without a state, from an empty memory.

        Args:
            x: the sequences of a batch; what lies beyond a length is not read.
            state: before the first step.
            lengths: int64 [B], steps 0..T of each element, best on the CPU; None: T. Outputs beyond are zeros, and the state of an element
                is that after its last step.
        """
        weight = layers.output_weight(self)
        x = input_for(weight, x)
        check_input(x, self.input_size, weight)
        with ordinary(weight.device):
            if state is None:
                state = self.initial_state(x.shape[1])
            if not self.checks_in_run or not isinstance(state, MANNState):
                self.check_state(state, x)
            if lengths is None or (ends := check_lengths(lengths, x)) is None:
                return self.run(x, state)
            return self.run(x, state, ends)

    def run(self, x: Tensor, state: MANNState[M], lengths: Lengths | None = None) -> tuple[Tensor, MANNState[M]]:
        """Run all steps and the output layer."""
        features, state = self.unroll(x, state) if lengths is None else self.unroll_padded(x, state, lengths)
        with phase("controller"):
            y = self.output(features)
            return y if lengths is None else y.masked_fill(lengths.past(x.device).unsqueeze(2), 0), state

    def unroll(self, x: Tensor, state: MANNState[M]) -> tuple[Tensor, MANNState[M]]:
        """Run all steps: x [T, B, X] -> hidden state and reads of each step [T, B, H + R W], state."""
        controller, memory = state.controller, state.memory
        features = []
        for x_t in steps(x):
            controller, memory = self.step(x_t, controller, memory)
            features.append(torch.cat([controller.hidden, controller.reads.flatten(1)], dim=-1))
        return torch.stack(features), MANNState(controller, memory)

    def unroll_padded(self, x: Tensor, state: MANNState[M], lengths: Lengths) -> tuple[Tensor, MANNState[M]]:
        """Run the steps that each element has, the longest first, so that those still running are the first; beyond are zeros."""
        order = lengths.order()
        if order == sorted(order):
            return self.unroll_sorted(x, state, lengths)
        which = torch.tensor(order, device=x.device)
        back = which.argsort()
        ordered = Lengths(tuple(lengths.each[element] for element in order), lengths.steps)
        features, state = self.unroll_sorted(x[:, which], state.map(lambda tensor: tensor[which]), ordered)
        return features[:, back], state.map(lambda tensor: tensor[back])

    def unroll_sorted(self, x: Tensor, state: MANNState[M], lengths: Lengths) -> tuple[Tensor, MANNState[M]]:
        """As `unroll_padded`, of elements in order of their lengths."""
        batch, end = x.shape[1], max(lengths.each)
        features, ended, running = [x.new_zeros(len(x) - end, batch, self.output.in_features)], [], batch
        for first, steps_of, count in lengths.segments():
            if count < running:
                ended.append(state.map(lambda tensor, count=count: tensor[count:]))  # type: ignore[misc]
                state, running = state.map(lambda tensor, count=count: tensor[:count]), count  # type: ignore[misc]
            part, state = self.unroll_part(x[first : first + steps_of, :count], state)
            features.insert(-1, functional.pad(part, (0, 0, 0, batch - count)))
        return torch.cat(features), type(state).join([state, *reversed(ended)])

    def unroll_part(self, x: Tensor, state: MANNState[M]) -> tuple[Tensor, MANNState[M]]:
        """Run steps that all elements have."""
        return self.unroll(x, state)

    def step(self, x_t: Tensor, controller: ControllerState, memory: M) -> tuple[ControllerState, M]:
        """Run one time step: x_t [B, X]."""
        with phase("controller"):
            hidden, cell = self.control(x_t, controller)
            interface = self.interface(hidden)
        reads, memory = self.access(interface, memory)
        return ControllerState(hidden, cell, reads), memory

    def control(self, x_t: Tensor, controller: ControllerState) -> tuple[Tensor, Tensor]:
        """Step the LSTM on the input [B, X] and the last reads -> hidden and cell state [B, H]."""
        inputs = torch.cat([x_t, controller.reads.flatten(1)], dim=-1)
        hidden, cell = self.controller(inputs, (controller.hidden, controller.cell))
        return hidden, cell

    def check_state(self, state: object, x: Tensor) -> None:
        """ValueError unless the state is one of this model's, for the batch and device of x."""
        if not isinstance(state, MANNState):
            raise ValueError(f"state: expected one made by initial_state(batch), got {type(state).__name__}")
        batch, device = x.shape[1], x.device
        units, reads = (batch, self.hidden), (batch, self.heads, self.word_size)
        check_tensors("state.controller", state.controller, {"hidden": units, "cell": units, "reads": reads}, device, x.dtype)
        if shapes := self.memory_shapes(batch):
            check_tensors("state.memory", state.memory, shapes, device)

    def memory_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors of `initial_memory` by their names; a state with others is refused."""
        return {"memory": (batch, self.slots, self.word_size)}

    def memory_bytes(self, batch: int, steps: int, mode: str) -> dict[str, int]:
        """Predict the bytes of one pass of `steps` steps, by cause; `mode` is "train" or "infer". Nothing of size N is allocated here."""
        item = self.output.weight.element_size()
        parameters = sum(p.numel() * p.element_size() for p in self.parameters())
        prediction = {"parameters": parameters, "state": self.state_bytes(batch)}
        if mode == "train":
            prediction["gradients"] = parameters
            prediction["tape"] = steps * (self.controller_tape_bytes(batch) + self.tape_bytes_per_step(batch))
        prediction["outputs"] = 2 * steps * batch * (self.hidden + self.heads * self.word_size) * item
        return prediction

    def state_bytes(self, batch: int) -> int:
        """Compute the bytes of `initial_state(batch)` on tensors without data: nothing is allocated."""
        if self.output.weight.is_meta:
            return self.initial_state(batch).size_bytes
        with FakeTensorMode(allow_non_fake_inputs=True):  # its first use loads torch's compiler, which takes longer than torch
            return self.initial_state(batch).size_bytes

    def controller_tape_bytes(self, batch: int) -> int:
        """Predict the bytes a step that LSTM cell and linear layers save for backward: inputs, four gates, cell, hidden, outputs."""
        reads = self.heads * self.word_size
        return batch * (self.input_size + reads + 10 * self.hidden + self.interface.out_features) * self.output.weight.element_size()


class DenseMANN(MANN[M]):
    """A model that makes a new memory every step, so that autograd saves O(N) bytes a step; three options make that cheaper.

    Args:
        kernels: "native" runs a sequence as one native call, on the CPU; "torch" step by step; "auto": native where that can run, but
            torch with `checkpoint` or `compiled`.
        checkpoint: save the state of every sqrt(T)-th step only, and recompute the steps between in backward (Chen et al. 2016).
        compiled: `torch.compile` the step, which fuses its element-wise work; the first call of each size takes seconds to minutes.
    """

    kind: Kind  # of its native kernels

    def __init__(self, *, kernels: str = "auto", checkpoint: bool = False, compiled: bool = False, **sizes: int) -> None:
        if kernels not in ("auto", "native", "torch"):
            raise ValueError(f"kernels: expected one of auto, native, torch, got {kernels!r}")
        if kernels == "native" and compiled:
            raise ValueError("kernels: expected auto or torch with compiled, which is a way to run torch, got 'native'")
        super().__init__(**sizes)
        self.kernels, self.checkpoint, self.compiled = kernels, checkpoint, compiled
        if compiled:
            compiled_step()  # loads the compiler now, not in the first step

    @property
    def backend(self) -> dict[str, str]:
        """What runs: `kernels` "native" or "torch", which may differ from the option."""
        return {"kernels": dense_native.choose_for(self)}

    @property
    def fallback(self) -> str | None:
        """Why torch runs although native kernels may; None if they run or are not to."""
        return dense_native.why_not_model(self)

    def native_inputs(self, memory: M) -> dense_native.DenseInputs:
        """Name the states and sizes of a native pass that starts from this memory; a model without native kernels has none."""
        raise NotImplementedError

    def memory_after(self, memory: M, steps: int, states: list[Tensor], lengths: Lengths | None) -> M:
        """Make the memory after a native pass from its states."""
        raise NotImplementedError

    def check_state(self, state: object, x: Tensor) -> None:
        super().check_state(state, x)
        assert isinstance(state, MANNState)
        check_tensors("state.memory", state.memory, self.memory_shapes(x.shape[1]), x.device, x.dtype)

    def run(self, x: Tensor, state: MANNState[M], lengths: Lengths | None = None) -> tuple[Tensor, MANNState[M]]:
        """Run all steps and the output layer, in native calls where that can be."""
        if self.backend["kernels"] != "native":
            return super().run(x, state, lengths)
        with phase("sequence"):
            return uncompiled(dense_native.run)(self, x, state, lengths)

    def step(self, x_t: Tensor, controller: ControllerState, memory: M) -> tuple[ControllerState, M]:
        """Run one time step, compiled or not."""
        return compiled_step()(self, x_t, controller, memory) if self.compiled else super().step(x_t, controller, memory)

    def unroll(self, x: Tensor, state: MANNState[M]) -> tuple[Tensor, MANNState[M]]:
        """Run all steps, in checkpointed segments or as one."""
        return self.in_segments(self.unroll_segment, x, state, None)

    def unroll_sorted(self, x: Tensor, state: MANNState[M], lengths: Lengths) -> tuple[Tensor, MANNState[M]]:
        return self.in_segments(self.unroll_segment, x, state, lengths)

    def unroll_segment(self, x: Tensor, state: MANNState[M], lengths: Lengths | None) -> tuple[Tensor, MANNState[M]]:
        """Run the steps of one segment."""
        return super().unroll(x, state) if lengths is None else super().unroll_sorted(x, state, lengths)

    def unroll_part(self, x: Tensor, state: MANNState[M]) -> tuple[Tensor, MANNState[M]]:
        return super().unroll(x, state)

    def in_segments(
        self,
        run: Callable[[Tensor, MANNState[M], Lengths | None], tuple[Tensor, MANNState[M]]],
        x: Tensor,
        state: MANNState[M],
        lengths: Lengths | None,
    ) -> tuple[Tensor, MANNState[M]]:
        """Run all steps by `run`, with checkpoints a segment of ceil(sqrt(T)) steps at a time, which backward runs once more."""
        if not (self.checkpoint and torch.is_grad_enabled()):
            return run(x, state, lengths)
        parts: list[Tensor] = []
        size = math.isqrt(len(x) - 1) + 1
        for number, segment in enumerate(x.split(size)):
            ends = None if lengths is None else lengths.part(number * size, len(segment))
            part, state = checkpoint(run, segment, state, ends, use_reentrant=False, preserve_rng_state=False)
            parts.append(part)
        return torch.cat(parts), state

    def memory_bytes(self, batch: int, steps: int, mode: str) -> dict[str, int]:
        """Predict as `MANN.memory_bytes` does, plus the workspace of one step's backward: about five states.

        With checkpoints, sqrt(T) states are saved and one segment of sqrt(T) steps at a time is recomputed.
        """
        prediction = super().memory_bytes(batch, steps, mode)
        if mode != "train":
            return prediction
        state, segment = self.state_bytes(batch), math.isqrt(steps - 1) + 1
        if dense_native.to_run(self) == "native":
            prediction |= self.native_bytes(batch, segment if self.checkpoint else steps)
            in_segment = prediction["tape"]
        else:
            prediction["workspace"] = 5 * state
            in_segment = segment * (prediction["tape"] // steps)
        if self.checkpoint:
            prediction["workspace"] += in_segment
            prediction["tape"] = math.ceil(steps / segment) * state
        return prediction

    def native_bytes(self, batch: int, steps: int) -> dict[str, int]:
        """Predict what a native pass keeps, its tape and the states after it, and what its backward needs.

        That are gradients, a copy of the memory, and vectors over N.
        """
        item, state = self.output.weight.element_size(), self.state_bytes(batch)
        sizes = {**dense_native.model_sizes(self, steps, batch), "write_heads": getattr(self, "write_heads", 1), "taped": 1}
        tape = sum(math.prod(shape) for shape in tape_shapes(self.kind, sizes).values())
        return {"tape": tape * item + state, "workspace": state + batch * self.slots * (self.word_size + 5 * self.heads + 6) * item}


@functools.cache
def compiled_step() -> Callable[..., tuple[ControllerState, Any]]:
    """`MANN.step`, compiled. No model holds it, so a copy of a model runs it with its own weights and can be pickled."""
    return torch.compile(MANN.step)


def check_at_least(name: str, value: int, least: int, why: str = "") -> None:
    """ValueError unless `value` is a whole number >= least."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: expected a whole number >= {least}{f' ({why})' if why else ''}, got {value!r}")


def check_tensors(
    name: str, state: object, shapes: Mapping[str, tuple[int, ...]], device: torch.device, dtype: torch.dtype | None = None
) -> None:
    """ValueError that names the first tensor of a state that has another shape than expected, or another device or dtype."""
    parts = tuple(shapes)
    try:
        tensors = _getter(parts)(state)
    except AttributeError as error:
        raise ValueError(f"{name}: expected one with {', '.join(parts)}, got {error}; make one with initial_state") from None
    alike = [*map(_SHAPE, tensors)] == [*shapes.values()] and [*map(_DEVICE, tensors)].count(device) == len(tensors)
    if alike and (dtype is None or [*map(_DTYPE, tensors)].count(dtype) == len(tensors)):
        return
    for part, tensor in zip(parts, tensors, strict=True):
        if tensor.shape != shapes[part] or tensor.device != device or dtype not in (None, tensor.dtype):
            wanted = f"{list(shapes[part])}{f' {dtype}' if dtype else ''} on {device}"
            got = f"{list(tensor.shape)}{f' {tensor.dtype}' if dtype else ''} on {tensor.device}"
            raise ValueError(f"{name}.{part}: expected {wanted}, got {got}; make one with initial_state")


_SHAPE, _DEVICE, _DTYPE = (attrgetter(name) for name in ("shape", "device", "dtype"))
_getter = functools.cache(lambda names: attrgetter(*names) if len(names) > 1 else lambda state: (attrgetter(*names)(state),))


def check_input(x: Tensor, input_size: int, weight: Tensor) -> None:
    """ValueError unless x is [T, B, X] with T, B >= 1 on the model's device and dtype."""
    if x.dim() != 3 or x.shape[2] != input_size or min(x.shape) < 1:
        raise ValueError(f"x: expected [T, B, {input_size}] with T, B >= 1, got {list(x.shape)}")
    if x.dtype != weight.dtype or x.device != weight.device:
        raise ValueError(f"x: expected {weight.dtype} on {weight.device} as the model's parameters, got {x.dtype} on {x.device}")
