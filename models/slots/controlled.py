"""All steps of SDM behind an LSTM in one native call that autograd sees as one: `kernels/sequence/slot_recurrence.py`."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mann_bench.kernels.autocast import without_autocast
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.kernels.sequence.slot_recurrence import ControllerEnds, ControllerTape, ControllerWeights, SlotRecurrence
from mann_bench.kernels.sequence.slot_steps import SlotSearch, SlotWeights
from mann_bench.models.slots.bank import BankPass

ENDS, CONTROLLER, ACCESS = (len(kind._fields) for kind in (ControllerEnds, ControllerWeights, SlotWeights))


def controlled_steps(
    current: BankPass,
    x: Tensor,
    before: ControllerEnds,
    controller: ControllerWeights,
    weights: SlotWeights,
    search: SlotSearch,
    *,
    weighted: bool,
    lengths: Lengths | None = None,
) -> tuple[Tensor, ControllerEnds]:
    """Run all steps.

    Args:
        x: [T, B, X].
        before: states before the first step.
        weighted: as of `delta_step`.

    Returns:
        Hidden state and reads of each step, [T, B, H + R W], zeros beyond the lengths; and the states after the last step of each element.
    """
    bank, columns = current.memory.memory, len(weights.interface_bias)
    steps = SlotRecurrence(
        bank, len(x), search, columns, x, weighted=weighted, taped=current.recorded, snapshot=current.snapshot, lengths=lengths
    )
    if not current.recorded:
        with torch.no_grad():
            tape, after = steps.run(x, ControllerEnds(*(part.contiguous() for part in before)), controller, weights)
            return tape.carry[1:], after
    features: Tensor
    features, *ends, current.token = _ControlledSteps.apply(current.token, current, steps, x, *before, *controller, *weights)
    return features, ControllerEnds(*ends)


class _ControlledSteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, token, current, steps, x, *tensors):  # type: ignore[no-untyped-def]
        parts = [tensor.contiguous() for tensor in tensors]
        before, controller = ControllerEnds(*parts[:ENDS]), ControllerWeights(*parts[ENDS : ENDS + CONTROLLER])
        weights = SlotWeights(*parts[ENDS + CONTROLLER :])
        tape, after = steps.run(x.contiguous(), before, controller, weights)
        ctx.current, ctx.number, ctx.access = current, len(current.writes), len(current.accessed)
        ctx.save_for_backward(x.contiguous(), *controller, *weights, *tape)
        current.writes.append(steps)
        current.accessed += [steps.write.rows, steps.read.rows]
        return tape.carry[1:], *after, token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_features, grad_hidden, grad_cell, grad_reads, grad_token):  # type: ignore[no-untyped-def]
        current, (x, *saved) = ctx.current, ctx.saved_tensors
        controller, weights = ControllerWeights(*saved[:CONTROLLER]), SlotWeights(*saved[CONTROLLER : CONTROLLER + ACCESS])
        tape = ControllerTape(*saved[CONTROLLER + ACCESS :])
        gradient, touched_reads = current.gradient_of(ctx.access + 1)
        _, touched_writes = current.gradient_of(ctx.access)
        current.require_next(ctx.number)
        grad_after = ControllerEnds(grad_hidden, grad_cell, grad_reads)
        steps = current.writes[ctx.number]
        with without_autocast(x.device):
            of_x, *found = steps.gradients(
                x, controller, weights, tape, grad_features, grad_after, gradient, touched_writes, touched_reads
            )  # fmt: skip
        current.undone()
        return grad_token, None, None, of_x, *(part for parts in found for part in parts)
