"""Native steps on a bank of slots that autograd sees as one: `kernels/sequence/slot_steps.py`, `kernels/sequence/slot_recurrence.py`."""

from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mann_bench.kernels.autocast import without_autocast
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.kernels.sequence.slot_recurrence import ControllerEnds, ControllerWeights, SlotRecurrence
from mann_bench.kernels.sequence.slot_shapes import SlotSearch
from mann_bench.kernels.sequence.slot_steps import BankSteps, SlotSteps, SlotWeights
from mann_bench.models.slots.passes import NativeBankPass

StepsT = TypeVar("StepsT", bound=BankSteps)

ENDS, CONTROLLER = len(ControllerEnds._fields), len(ControllerWeights._fields)


def slot_steps(
    current: NativeBankPass, x: Tensor, weights: SlotWeights, search: SlotSearch, *, weighted: bool, lengths: Lengths | None = None
) -> Tensor:
    """Make accesses of the inputs [T, B, X] of some steps and run these, in one native call: [T, B, R, W], zeros beyond the lengths.

    Args:
        weighted: whether slot n decays by exp(g k_n) instead of exp(g).
    """
    steps = _of_pass(SlotSteps, current, x, search, weights, weighted=weighted, lengths=lengths)
    if not current.recorded:
        with torch.no_grad():
            return steps.run(x.contiguous(), weights)
    y: Tensor
    y, current.token = _SlotSteps.apply(current.token, current, steps, x, *weights)
    return y


def _of_pass(
    kind: type[StepsT],
    current: NativeBankPass,
    x: Tensor,
    search: SlotSearch,
    weights: SlotWeights,
    *,
    hidden: int = 0,
    weighted: bool,
    lengths: Lengths | None,
) -> StepsT:
    """Make the call of some steps of a pass."""
    return kind(
        current.memory.memory,
        len(x),
        search,
        weights,
        x.shape[2],
        hidden=hidden,
        weighted=weighted,
        taped=current.recorded,
        snapshot=current.snapshot,
        lengths=lengths,
    )


class _SlotSteps(torch.autograd.Function):
    """Gradients of the weights are those of the whole pass: its backward adds them up, and its first steps hand them on."""

    @staticmethod
    def forward(ctx, token, current, steps, x, *weights):  # type: ignore[no-untyped-def]
        x, made = x.contiguous(), SlotWeights(*(part.contiguous() for part in weights))
        y = steps.run(x, made)
        ctx.current, ctx.number = current, len(current.writes)
        ctx.save_for_backward(x, *made)
        current.writes.append(steps)
        return y, token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_token):  # type: ignore[no-untyped-def]
        current, (x, *parts) = ctx.current, ctx.saved_tensors
        weights, gradient = SlotWeights(*parts), current.gradient()
        current.require_next(ctx.number)
        of_weights = current.of_weights = current.of_weights or weights.zeros()
        of_x = current.writes[ctx.number].gradients(x, weights, grad, gradient, of_weights)
        current.undone(gradient)
        return grad_token, None, None, of_x, *([None] * len(weights) if ctx.number else of_weights)


def controlled_steps(
    current: NativeBankPass,
    x: Tensor,
    before: ControllerEnds,
    controller: ControllerWeights,
    weights: SlotWeights,
    search: SlotSearch,
    *,
    weighted: bool,
    lengths: Lengths | None = None,
) -> tuple[Tensor, ControllerEnds]:
    """Run all steps behind an LSTM in one native call.

    Args:
        x: [T, B, X].
        before: states before the first step.
        weighted: as of `slot_steps`.

    Returns:
        Hidden state and reads of each step, [T, B, H + R W], zeros beyond the lengths; and the states after the last step of each element.
    """
    hidden = before.hidden.shape[1]
    steps = _of_pass(SlotRecurrence, current, x, search, weights, hidden=hidden, weighted=weighted, lengths=lengths)
    if not current.recorded:
        with torch.no_grad():
            carry, after = steps.run(x, ControllerEnds(*(part.contiguous() for part in before)), controller, weights)
            return carry[1:], after
    features: Tensor
    features, *ends, current.token = _ControlledSteps.apply(current.token, current, steps, x, *before, *controller, *weights)
    return features, ControllerEnds(*ends)


class _ControlledSteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, token, current, steps, x, *tensors):  # type: ignore[no-untyped-def]
        parts = [tensor.contiguous() for tensor in tensors]
        controller, weights = ControllerWeights(*parts[ENDS : ENDS + CONTROLLER]), SlotWeights(*parts[ENDS + CONTROLLER :])
        carry, after = steps.run(x, ControllerEnds(*parts[:ENDS]), controller, weights)
        ctx.current, ctx.number = current, len(current.writes)
        ctx.save_for_backward(x.contiguous(), carry, *controller, *weights)
        current.writes.append(steps)
        return carry[1:], *after, token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_features, grad_hidden, grad_cell, grad_reads, grad_token):  # type: ignore[no-untyped-def]
        current, (x, carry, *saved) = ctx.current, ctx.saved_tensors
        controller, weights = ControllerWeights(*saved[:CONTROLLER]), SlotWeights(*saved[CONTROLLER:])
        gradient = current.gradient()
        current.require_next(ctx.number)
        grad_after = ControllerEnds(grad_hidden, grad_cell, grad_reads)
        with without_autocast(x.device):
            of_x, *found = current.writes[ctx.number].gradients(x, controller, weights, carry, grad_features, grad_after, gradient)
        current.undone(gradient)
        return grad_token, None, None, of_x, *(part for parts in found for part in parts)
