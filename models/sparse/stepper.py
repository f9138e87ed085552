"""Steps of SAM and SDNC one at a time and without gradients, as an agent or a decoder makes them."""

from typing import Protocol

import torch
from torch import Tensor

from mann_bench.kernels.sequence import recurrence
from mann_bench.kernels.sequence.autograd import DifferentiableStates
from mann_bench.kernels.sequence.recurrence import Weights
from mann_bench.kernels.sequence.repeated import RepeatedStep
from mann_bench.models import layers
from mann_bench.models.modes import ordinary
from mann_bench.models.sparse import native
from mann_bench.models.sparse.state import SAMMemory
from mann_bench.models.state import ControllerState, MANNState


class Steppable(native.NativeModel, Protocol):
    """SAM, and what is built on it."""

    def __call__(self, x: Tensor, state: MANNState[SAMMemory]) -> tuple[Tensor, MANNState[SAMMemory]]:
        """Run a sequence."""


class Stepper:
    """Calls the model for each step.

    Args:
        model: SAM, or one built on it.
        state: to begin from; after the first step it is stale, as after a call of the model without gradients.
    """

    def __init__(self, model: Steppable, state: MANNState[SAMMemory]) -> None:
        self.model, self._state = model, state

    @property
    def state(self) -> MANNState[SAMMemory]:
        """The state after the last step, to go on with otherwise; the next step makes it stale."""
        return self._state

    def __call__(self, x: Tensor) -> Tensor:
        """Step: x [B, X] -> y [B, Y]."""
        with torch.no_grad():
            y, self._state = self.model(x.unsqueeze(0), self._state)
        return y.squeeze(0)


class NativeStepper(Stepper):
    """Makes one native call a step, whose preparation is done once for all.

    It uses the parameters where they lie when it is made: what changes them in place, as an optimiser does, is seen; what puts others in
    their place, as `model.double()`, is not.
    """

    def __init__(self, model: Steppable, state: MANNState[SAMMemory]) -> None:
        super().__init__(model, state)
        self.rows, self.position = state.memory.rows, state.memory.position
        self.rows.history.begin(self.position)
        weight = layers.output_weight(model)
        self.weights = Weights(*[parameter.detach() for parameter in layers.weights(model)])  # which keeps them where they are
        self.batch = len(state.controller.hidden)
        self.kind = (self.batch, model.input_size), weight.dtype, weight.device
        self.appends, self.write_heads, self.slots = native.ring_appends(model), model.write_heads, model.slots
        self.repeated: RepeatedStep | None = None

    @property
    def state(self) -> MANNState[SAMMemory]:
        if self.repeated is None:
            return self._state
        states = self.repeated.states
        controller = ControllerState(*(states[name] for name in ("hidden", "cell", "reads")))
        memory = self.model.memory_after(self._state.memory, states, states["read_weights"], self.position)
        self._state, self.repeated = MANNState(controller, memory), None  # whose tensors later steps do not overwrite
        return self._state

    def __call__(self, x: Tensor) -> Tensor:
        if (x.shape, x.dtype, x.device) != self.kind:
            shape, dtype, device = self.kind
            raise ValueError(f"x: expected {list(shape)} {dtype} on {device}, got {list(x.shape)} {x.dtype} on {x.device}")
        rows = self.rows
        ring, history = rows.ring, rows.history
        history.begin(self.position)
        ring.begin(log=False)
        ring.reserve(self.appends)
        repeated = self.repeated
        if repeated is None or not self.is_current(repeated):
            self.repeated = repeated = self.prepare()
        y = repeated.step(x.contiguous(), rows.num_candidates, ring.tail)
        ring.head = repeated.states["ring_head"]
        ring.tail += self.appends
        rows.count_writes(1, self.write_heads)
        self.position = history.end(None)
        return y

    def is_current(self, repeated: RepeatedStep) -> bool:
        """Whether what a prepared call knows of the memory still holds."""
        rows, memory = self.rows, repeated.memory
        same = rows.ring.queue is memory["ring_queue"] and rows.ring.last is memory["ring_last"] and rows.counts is None
        return same and (rows.num_candidates == self.slots or repeated.num_parts(rows.num_candidates) == max(1, repeated.packed.parts))

    def prepare(self) -> RepeatedStep:
        """Pack the call of a step from the state as it is now."""
        model, state, rows = self.model, self.state, self.rows
        memory, controller = state.memory, state.controller
        with ordinary(rows.memory.device), torch.no_grad():
            added = model.native_inputs(memory)
            rows.ring.head = rows.ring.head.clone()  # the one before is that of a mark
            sizes, buffers = native.sizes_and_buffers(model, rows, added, torch.empty_like(rows.ring.head), 1, self.batch, taped=False)
            which = native.build_for(self.kind[1], rows.memory.dtype)
            repeated = RepeatedStep(which, sizes, native.memory_sizes(rows), buffers, counts=native.counts_of(rows))
            before = (controller.hidden, controller.cell, controller.reads, memory.weights)
            states = DifferentiableStates(*map(own, before))
            constant = {name: own(tensor) for name, tensor in added.constant_states.items()}
            repeated.prepare(rows.norms.new_empty(1, *self.kind[0]), self.weights, states, constant)
        return repeated


def own(tensor: Tensor) -> Tensor:
    """A contiguous copy without history."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def make_stepper(model: Steppable, state: MANNState[SAMMemory]) -> Stepper:
    """Make the fastest stepper that can step the model from a state.

    Raises:
        ValueError: the state is not one of this model's.
    """
    weight = layers.output_weight(model)
    batch = len(state.controller.hidden) if isinstance(state, MANNState) else 1
    model.check_state(state, weight.new_empty(1, batch, model.input_size))
    rows, device = state.memory.rows, weight.device
    is_taken_back = rows.narrow or rows.history.standing  # the first elements of a memory, or on top of a pass that stands
    if is_taken_back or any(layers.HOOKS(vars(model))):
        return Stepper(model, state)
    # One call does all of the step with the weights where they lie; for a large batch a pass uses torch beside it, or weights transposed.
    is_short = recurrence.is_short(1, batch, device) and not recurrence.pay_panels(1, batch, device)
    return NativeStepper(model, state) if is_short and native.choose_for(model) == "native" else Stepper(model, state)
