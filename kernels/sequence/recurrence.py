"""What all native passes through time have in common: the controller's weights, and the products before and after the recurrence."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.autocast import without_autocast
from mann_bench.kernels.native.arguments import PLACES
from mann_bench.kernels.native.call import call
from mann_bench.kernels.native.clocks import watching
from mann_bench.kernels.native.layout import Layout
from mann_bench.kernels.sequence.lengths import Lengths, RunningSteps
from mann_bench.kernels.sequence.tape import Plan, layout


class Weights(NamedTuple):
    """The parameters of controller (as `nn.LSTMCell` keeps them, over [x_t, r_{t-1}]), interface and output (over [h_t, r_t])."""

    weight_ih: Tensor  # [4H, X + R W]
    weight_hh: Tensor  # [4H, H]
    bias_ih: Tensor  # [4H]
    bias_hh: Tensor  # [4H]
    interface_weight: Tensor  # [P, H]
    interface_bias: Tensor  # [P]
    output_weight: Tensor  # [Y, C]
    output_bias: Tensor  # [Y]


WEIGHTS = Weights._fields
GRADIENTS = tuple(f"grad_{name}" for name in WEIGHTS)


class Recurrence:
    """One pass through time, forward and backward.

    Args:
        of: plan of passes of its sizes.
        now: sizes that change from call to call, by the names of `csrc/arguments.h`.
        device: where it runs.
        entries: entry points forward and backward.
        lengths: of the elements, where they differ from the number of steps.

    Attributes:
        given: inputs of all calls, by name; most passes have none.
        running: the steps that elements have: products around the recurrence are of them alone.
        carry: [T + 1, B, C], hidden state and reads of every step, from before the first one on.
        tape: what else forward keeps for backward.
    """

    x: Tensor
    weights: Weights
    carry: Tensor
    tape: Tensor

    def __init__(
        self, of: Plan, now: Mapping[str, int], device: torch.device, entries: tuple[str, str], lengths: Lengths | None = None
    ) -> None:
        self.plan, self.now, self.device, self.entries = of, now, device, entries
        self.order = of.sizes[:]
        self.short = of.short
        self.clocks = watching()
        self.set_sizes(now)
        self.given: dict[str, Tensor] = {} if lengths is None else lengths.buffers(device)
        self.running = RunningSteps(lengths, of.size["steps"], of.size["batch"], device)

    @property
    def sizes(self) -> Mapping[str, int]:
        """All sizes that the pass began with, by name."""
        return {**self.plan.size, **self.now}

    def set_sizes(self, sizes: Mapping[str, int]) -> None:
        """Set sizes of the next calls by name."""
        for name, size in sizes.items():
            self.order[PLACES[name]] = size

    def run_forward(self, inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> Tensor:
        """Run the recurrence and the output layer on x, weights, carry and tape; returns y [T, B, Y]."""
        x, weights = self.x, self.weights
        if self.short:
            y = x.new_empty(self.plan.shapes["y"])
            given = {"x": x, **dict(zip(WEIGHTS, weights, strict=True)), **inputs}
            changed = {"y": y, **self.panels("panels"), **changed, **self._clocks("forward")}
            if self.plan.size["taped"]:
                changed["input"] = x.new_empty(self.plan.shapes["input"])
            self.call(self.entries[0], given, changed)
            return y
        given = {**self.matrices(), "interface_bias": weights.interface_bias, **inputs, "input": self.gate_inputs()}
        self.call(self.entries[0], given, {**self.panels("panels"), **changed, **self._clocks("forward")})
        return self.outputs()

    def gate_inputs(self) -> Tensor:
        """The gates' share from x, [T, B, 4H]."""
        weights, x = self.weights, self.running.take(self.x)
        of_x = functional.linear(x, weights.weight_ih[:, : x.shape[1]], weights.bias_ih + weights.bias_hh)
        return self.running.spread(of_x, zeros=False)

    def outputs(self) -> Tensor:
        """Compute y [T, B, Y] from the carry."""
        features = self.running.take(self.carry[1:])
        return self.running.spread(functional.linear(features, self.weights.output_weight, self.weights.output_bias), zeros=True)

    def feature_gradients(self, grad_y: Tensor) -> Tensor:
        """The gradients of hidden states and reads by the output layer, [T, B, C]."""
        return self.running.spread(self.running.take(grad_y) @ self.weights.output_weight, zeros=False)

    def input_gradients(self, grad_gates: Tensor) -> Tensor:
        """The gradient of x [T, B, X]."""
        return self.running.spread(self.running.take(grad_gates) @ self.weights.weight_ih[:, : self.x.shape[2]], zeros=True)

    def run_backward(
        self, grad_y: Tensor | None, inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor], *, needs_x: bool
    ) -> tuple[Tensor | None, Weights]:
        """Run the recurrence backwards; returns the gradients of x, if needed, and of the weights."""
        shapes, new = self.plan.shapes, self.carry.new_empty
        grad_y = self.carry.new_zeros(shapes["y"]) if grad_y is None else grad_y.contiguous()
        lines = new(self.plan.blocks["lines"].shape)
        changed = {"lines": lines, **self.panels("panels_back"), **changed, **self._clocks("backward")}
        if self.short:
            grad_weights = self._short_backward(grad_y, inputs, changed)
            grad_gates = self._grad_gates_in(lines) if needs_x else None
        else:
            grad_gates = new(shapes["grad_gates"])
            with without_autocast(self.device):
                grad_weights = self._long_backward(grad_y, inputs, {"grad_gates": grad_gates, **changed})
        if grad_gates is None or not needs_x:
            return None, grad_weights
        with without_autocast(self.device):
            return self.input_gradients(grad_gates), grad_weights

    def _short_backward(self, grad_y: Tensor, inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> Weights:
        """Compute the gradients of the weights in the same native call."""
        weights = self.weights
        grads = [*map(torch.empty_like, weights)]
        given = {"x": self.x, "grad_y": grad_y, **self.matrices(), "output_weight": weights.output_weight, **inputs}
        self.call(self.entries[1], given, {**changed, **dict(zip(GRADIENTS, grads, strict=True))})
        return Weights(*grads)

    def _long_backward(self, grad_y: Tensor, inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> Weights:
        """Compute the gradients of the weights as matrix products after the native call."""
        grad_interface, cell_inputs = (self.carry.new_empty(self.plan.shapes[name]) for name in ("grad_interface", "cell_inputs"))
        given = {"x": self.x, "grad_features": self.feature_gradients(grad_y), **self.matrices(), **inputs}
        self.call(self.entries[1], given, {**changed, "grad_interface": grad_interface, "cell_inputs": cell_inputs})
        return self.sum_products(grad_y, changed["grad_gates"], grad_interface, cell_inputs)

    def _grad_gates_in(self, lines: Tensor) -> Tensor:
        """The gradient of the gates [T, B, 4H] of a short pass, in the block `lines`."""
        shape = self.plan.shapes["grad_gates"]
        first = dict(self.plan.blocks["lines"].buffers)["grad_gates"] // lines.element_size()
        return lines[first : first + math.prod(shape)].view(shape)

    def sum_products(self, grad_y: Tensor, grad_gates: Tensor, grad_interface: Tensor, cell_inputs: Tensor) -> Weights:
        """The gradients of the weights as matrix products, from those of each step and what it was given."""
        hidden = self.sizes["hidden"]
        gates, inputs, interface, output = map(self.running.take, (grad_gates, cell_inputs, grad_interface, grad_y))
        before, after = self.running.take(self.carry[:-1, :, :hidden]), self.running.take(self.carry[1:])
        bias = gates.sum(0)
        return Weights(
            gates.t() @ inputs,
            gates.t() @ before,
            bias,
            bias,
            interface.t() @ after[:, :hidden],
            interface.sum(0),
            output.t() @ after,
            output.sum(0),
        )

    def call(self, entry: str, inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> None:
        """Call an entry point on buffers, or blocks of the plan, by name."""
        buffers = {"carry": self.carry, "tape": self.tape, **changed}
        if self.given:
            inputs = {**inputs, **self.given}
        self.submit(entry, layout(self.plan, (*inputs, *buffers)), [*inputs.values()], [*buffers.values()])

    def submit(self, entry: str, layout: Layout, inputs: Sequence[Tensor], buffers: Sequence[Tensor]) -> None:
        """Make a call whose tensors are laid out."""
        call(entry, layout, inputs, buffers, self.order)

    def matrices(self) -> dict[str, Tensor]:
        """The matrices of the recurrence, by name."""
        weights = self.weights
        return {"weight_ih": weights.weight_ih, "weight_hh": weights.weight_hh, "interface_weight": weights.interface_weight}

    def panels(self, block: str) -> dict[str, Tensor]:
        """`room_for_panels` of this pass."""
        return room_for_panels(self.plan, block, self.carry)

    def _clocks(self, direction: str) -> dict[str, Tensor]:
        return self.clocks.start(direction, self.sizes["batch"], self.device) if self.clocks else {}


SHORT = 128  # steps x batch up to which in-kernel products beat separate torch calls


def is_short(steps: int, batch: int, device: torch.device, lengths: Lengths | None = None) -> bool:
    """Whether the native call also computes the output layer and the gradients of the weights, rather than torch around it.

    Not with lengths: it would compute them for steps that an element does not have.
    """
    return device.type == "cpu" and lengths is None and steps * batch <= SHORT


def pay_panels(steps: int, batch: int, device: torch.device) -> bool:
    """Whether the matrices of a step are put in panels, of which a read serves several batch elements."""
    return device.type == "cpu" and batch > 1 and steps * batch >= 64


def room_for_panels(of: Plan, block: str, carry: Tensor) -> dict[str, Tensor]:
    """Make room, like the carry, for the matrices of a step in panels, where they pay: the native call fills it."""
    pay = pay_panels(of.size["steps"], of.size["batch"], carry.device)
    return {block: carry.new_empty(of.blocks[block].shape)} if pay else {}
