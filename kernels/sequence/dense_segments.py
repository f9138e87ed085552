"""A pass of a model with a dense memory in segments: the states before each are kept, and backward runs each once more, with a tape.

What lies around the recurrence is computed for all steps at once, as in a pass without segments, so its numbers are the same to the bit:
the gates' share from the inputs, the output layer, and the gradients of the weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mann_bench.kernels.autocast import without_autocast
from mann_bench.kernels.native.call import call
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.native.reuse import unset
from mann_bench.kernels.sequence.dense import CONTROLLER, DensePass, Kind
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.kernels.sequence.recurrence import Weights
from mann_bench.kernels.sequence.tape import layout

States = list[Tensor]


@dataclass(frozen=True)
class Segment:
    """Some steps of a pass.

    Attributes:
        first: number of the first step.
        sizes: as of a pass of these steps.
        constants: as of a pass of these steps.
        lengths: of the elements within them, where they differ.
    """

    first: int
    sizes: Mapping[str, int]
    constants: Mapping[str, Tensor]
    lengths: Lengths | None

    @property
    def steps(self) -> int:
        """How many."""
        return self.sizes["steps"]


class SegmentedPass:
    """One pass in segments.

    Args:
        sizes: of the whole pass, by the names of `csrc/arguments.h`.
        segments: in order.
        lengths: of the elements in the whole pass, where they differ.
    """

    def __init__(
        self,
        kind: Kind,
        which: Build,
        sizes: Mapping[str, int],
        device: torch.device,
        segments: Sequence[Segment],
        lengths: Lengths | None = None,
    ) -> None:
        self.kind, self.which, self.device, self.segments = kind, which, device, segments
        self.whole = DensePass(kind, which, sizes, device, {}, lengths)  # of it, what lies around the recurrence
        self.names = self.whole.names

    def run(self, x: Tensor, before: States, weights: Weights) -> tuple[Tensor, list[States]]:
        """Run forward without a tape: x [T, B, X] -> y [T, B, Y], and the states after each segment; `whole` has the carry of all steps."""
        whole = self.whole
        whole.x, whole.weights = x, weights
        whole.carry = x.new_empty(whole.plan.shapes["carry"])
        gates, matrices = self._gates(), self._matrices("panels")
        after, state = [], before
        for segment in self.segments:
            _, state = self._forward(segment, gates, matrices, state, taped=False)
            after.append(state)
        return self._outputs(), after

    def backward(self, grads: Sequence[Tensor | None], starts: Sequence[States], needs: Sequence[bool]) -> list[Tensor | None]:
        """Run backward.

        Args:
            grads: gradients of y and of the states after the last segment, or None each.
            starts: the states before each segment.
            needs: whether x and each of the states before the first segment need a gradient.

        Returns:
            Gradients of x, of the states before the first segment, and of the fields of `Weights`.
        """
        whole, shapes, kind = self.whole, self.whole.plan.shapes, self.kind
        carry, cell = whole._controller_gradients(grads[1:4])
        block = torch.cat([carry.flatten(), cell.flatten()])
        of_states = whole.gradients_of(starts[0], grads[4:])
        grad_y = whole.carry.new_zeros(shapes["y"]) if grads[0] is None else grads[0].contiguous()
        of_steps = {name: whole.carry.new_empty(shapes[name]) for name in ("grad_gates", "grad_interface", "cell_inputs")}
        features = self._feature_gradients(grad_y)
        gates, matrices, back = self._gates(), self._matrices("panels"), self._matrices("panels_back")
        given = {"grads": block, **{f"grad_{name}": grad for name, grad in zip(kind.states, of_states, strict=True)}}
        needs_first = needs[1 + len(CONTROLLER)]
        for segment, start in zip(reversed(self.segments), reversed(starts), strict=True):
            steps = slice(segment.first, segment.first + segment.steps)
            of_segment = {name: grad[steps] for name, grad in of_steps.items()}
            changed, first_gradient = {**of_segment, **given}, segment.first > 0 or needs_first
            self._backward(segment, gates, (matrices, back), start, features[steps], changed, first_gradient)
        grad_weights = self._weight_gradients(grad_y, of_steps)
        before = whole.split_gradients(block, of_states)
        grad_x = whole.input_gradients(of_steps["grad_gates"]) if needs[0] else None
        return [grad_x, *(grad if needed else None for grad, needed in zip(before, needs[1:], strict=True)), *grad_weights]

    def _backward(
        self,
        segment: Segment,
        gates: Tensor,
        matrices: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
        start: States,
        features: Tensor,
        changed: Mapping[str, Tensor],
        first_gradient: bool,
    ) -> None:
        """Run a segment once more, with a tape, and backwards; the tape is gone before that of the next is made.

        `matrices`: those of forward and of backward.
        """
        again, after = self._forward(segment, gates, matrices[0], start, taped=True)
        again.set_sizes({"first_gradient": int(first_gradient)})
        ends = {
            f"{end}_{name}": state
            for end, states in (("first", start), ("last", after))
            for name, state in zip(self.kind.states, states[len(CONTROLLER) :], strict=False)
        }
        given = {"x": again.x, "grad_features": features, **matrices[1], **ends}
        lines = self.whole.carry.new_empty(again.plan.blocks["lines"].shape)
        again.call(again.entries[1], given, {**changed, "lines": lines, **again._scratch(1), **again._clocks("backward")})

    def release(self) -> None:
        """Leave all tensors to autograd, which may drop and recompute them."""
        del self.whole.x, self.whole.weights, self.whole.carry

    def _forward(
        self, segment: Segment, gates: Tensor, matrices: Mapping[str, Tensor], before: States, *, taped: bool
    ) -> tuple[DensePass, States]:
        """Run a segment forward; returns the pass, with its tape, and the states after it."""
        sizes = {**segment.sizes, "taped": int(taped)}
        own = DensePass(self.kind, self.which, sizes, self.device, segment.constants, segment.lengths, short=False)
        steps = slice(segment.first, segment.first + segment.steps)
        own.x, own.weights = self.whole.x[steps], self.whole.weights
        own.carry = self.whole.carry[segment.first : segment.first + segment.steps + 1]
        own.tape = unset(own.x, own.plan.blocks["tape"].shape)
        after = [unset(state, state.shape) for state in before]
        ends = {f"first_{name}": state for name, state in zip(self.names, before, strict=True)}
        given = {**matrices, "interface_bias": own.weights.interface_bias, **ends, **own.constants, "input": gates[steps]}
        last = {f"last_{name}": state for name, state in zip(self.names, after, strict=True)}
        own.call(own.entries[0], given, {**last, **own._scratch(0), **own._clocks("forward")})
        return own, after

    def _around(self, entry: str, inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> None:
        """Call one of the products around the recurrence."""
        call(entry, layout(self.whole.plan, (*inputs, *changed)), list(inputs.values()), list(changed.values()), self.whole.order)

    def _matrices(self, block: str) -> Mapping[str, Tensor]:
        """The matrices of the recurrence, in panels where they pay: put there once for all segments."""
        matrices, panels = self.whole.matrices(), self.whole.panels(block)
        if panels:
            self._around("mb_panels", matrices, panels)
        return panels or matrices

    def _gates(self) -> Tensor:
        """The gates' share from the inputs [T, B, 4H]."""
        if not self.whole.short:
            return self.whole.gate_inputs()
        x, weights = self.whole.x, self.whole.weights
        gates = x.new_empty(self.whole.plan.shapes["input"])
        given = {"x": x, "weight_ih": weights.weight_ih, "bias_ih": weights.bias_ih, "bias_hh": weights.bias_hh}
        self._around("mb_input", given, {"input": gates})
        return gates

    def _outputs(self) -> Tensor:
        """Compute y [T, B, Y]."""
        if not self.whole.short:
            return self.whole.outputs()
        carry, weights = self.whole.carry, self.whole.weights
        y = carry.new_empty(self.whole.plan.shapes["y"])
        self._around("mb_output", {"carry": carry, "output_weight": weights.output_weight, "output_bias": weights.output_bias}, {"y": y})
        return y

    def _feature_gradients(self, grad_y: Tensor) -> Tensor:
        """The gradient of hidden states and reads [T, B, C] by the output layer."""
        if not self.whole.short:
            return self.whole.feature_gradients(grad_y)
        output = self.whole.weights.output_weight
        features = grad_y.new_empty(self.whole.plan.shapes["grad_features"])
        self._around("mb_output_back", {"grad_y": grad_y, "output_weight": output}, {"grad_features": features})
        return features

    def _weight_gradients(self, grad_y: Tensor, of_steps: Mapping[str, Tensor]) -> Weights:
        if not self.whole.short:
            return self.whole.sum_products(grad_y, **of_steps)
        grads = Weights(*map(torch.empty_like, self.whole.weights))
        given = {"carry": self.whole.carry, "grad_y": grad_y, **of_steps}
        self._around("mb_weight_gradients", given, {f"grad_{name}": grad for name, grad in grads._asdict().items()})
        return grads


class _Segmented(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own, x, *tensors):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        before, weights = list(tensors[: len(own.names)]), tensors[len(own.names) :]
        y, after = own.run(x, before, Weights(*weights))
        ctx.own = own
        ctx.save_for_backward(x, own.whole.carry, *weights, *before, *(state for states in after[:-1] for state in states))
        own.release()
        ctx.mark_non_differentiable(*after[-1][len(own.names) - len(own.kind.constant) :])
        return y, *after[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads):  # type: ignore[no-untyped-def]
        own, count = ctx.own, len(ctx.own.names)
        x, carry, *rest = ctx.saved_tensors
        weights, states = Weights(*rest[: len(Weights._fields)]), rest[len(Weights._fields) :]
        starts = [states[first : first + count] for first in range(0, len(states), count)]
        own.whole.x, own.whole.weights, own.whole.carry = x, weights, carry
        try:
            with without_autocast(own.device):
                found = own.backward(grads, starts, ctx.needs_input_grad[1 : 2 + count])
        finally:
            own.release()
        return None, *found


def segmented_sequence(own: SegmentedPass, x: Tensor, before: Sequence[Tensor], weights: Weights) -> tuple[Tensor, list[Tensor]]:
    """Run the recurrence as one differentiable call that keeps the states before each segment, as `dense_sequence` does."""
    y, *after = _Segmented.apply(own, x.contiguous(), *(state.contiguous() for state in before), *weights)
    return y, after
