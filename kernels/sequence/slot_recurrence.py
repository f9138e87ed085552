"""SDM behind an LSTM, all steps in one native call, forward and backward: `csrc/slots/recurrence.h` (Cabannes et al. 2026)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.sequence.slot_steps import AccessSteps, SlotWeights


class ControllerEnds(NamedTuple):
    """States of the controller before or after a pass, or their gradients."""

    hidden: Tensor  # [B, H]
    cell: Tensor  # [B, H]
    reads: Tensor  # [B, R, W]


class ControllerWeights(NamedTuple):
    """Parameters of an LSTM over [x_t, r_{t-1}], as `nn.LSTMCell` keeps them."""

    weight_ih: Tensor  # [4H, X + R W]
    weight_hh: Tensor  # [4H, H]
    bias_ih: Tensor  # [4H]
    bias_hh: Tensor  # [4H]


class ControllerTape(NamedTuple):
    """What backward needs of the controller; without a tape cell and gates are those of two steps."""

    carry: Tensor  # [T + 1, B, H + R W] hidden state and reads, from before the first step on
    cell: Tensor  # [T + 1, B, H]
    gates: Tensor  # [T, B, 4H]


class SlotRecurrence(AccessSteps):
    """A pass of SDM behind an LSTM. The interface vector of a step is not kept: its size grows with N."""

    def run(
        self, x: Tensor, before: ControllerEnds, controller: ControllerWeights, weights: SlotWeights
    ) -> tuple[ControllerTape, ControllerEnds]:
        """Run all steps.

        Args:
            x: [T, B, X].
            before: states before the first step, contiguous.
            controller: weights of the LSTM, contiguous.
            weights: that make accesses of its hidden state, contiguous.

        Returns:
            What backward needs, in which is the output of each step, and the states after the last step of each element.
        """
        (steps, batch, inputs), hidden = x.shape, before.hidden.shape[1]
        self.sizes |= {"input_size": inputs, "hidden": hidden}
        places = steps if self.sizes["taped"] else 2
        carry = self._new(x.new_empty(steps + 1, batch, hidden + before.reads[0].numel()))
        tape = ControllerTape(carry, x.new_empty(places + 1, batch, hidden), x.new_empty(places, batch, 4 * hidden))
        after = ControllerEnds(*map(torch.empty_like, before))
        given = {f"first_{name}": part for name, part in before._asdict().items()}
        given["input"] = functional.linear(x, controller.weight_ih[:, :inputs], controller.bias_ih + controller.bias_hh)
        given |= {"weight_ih": controller.weight_ih, "weight_hh": controller.weight_hh, **weights._asdict(), **self.constants}
        changed = {**tape._asdict(), **{f"last_{name}": part for name, part in after._asdict().items()}, **self.accesses(), **self.norms}
        changed |= {"delta_interface": x.new_empty(batch, self.sizes["interface_size"]), "scratch": self._scratch()}
        self._call("mb_slots_forward", given, {**changed, "delta_out": self._new(self.write.values)})
        return tape, after

    def gradients(
        self,
        x: Tensor,
        controller: ControllerWeights,
        weights: SlotWeights,
        tape: ControllerTape,
        grad_features: Tensor,
        grad_after: ControllerEnds,
        gradient: Tensor,
        touched_writes: Tensor,
        touched_reads: Tensor,
    ) -> tuple[Tensor, ControllerEnds, ControllerWeights, SlotWeights]:
        """Run the steps backwards and restore what they overwrote.

        Args:
            x: as of `run`, with `controller` and `weights`.
            tape: as `run` returned it.
            grad_features: of hidden state and reads of each step, [T, B, H + R W].
            grad_after: of the states after the pass.
            gradient: as of `DeltaSteps.backward`, with the two that follow.

        Returns:
            Gradients of x, of the states before the pass, and of the weights.
        """
        (steps, batch, inputs), hidden = x.shape, self.sizes["hidden"]
        of_carry = torch.cat([grad_after.hidden, grad_after.reads.flatten(1)], dim=1)
        of_cell, of_weights = grad_after.cell.clone(), weights.zeros()
        of_gates = self._new(x.new_empty(steps, batch, 4 * hidden))
        cell_inputs = self._new(x.new_empty(steps, batch, controller.weight_ih.shape[1]))
        given = {"x": x, "weight_ih": controller.weight_ih, "weight_hh": controller.weight_hh, "grad_features": grad_features.contiguous()}
        given |= {**weights._asdict(), **tape._asdict(), **self.constants, **self.norms}
        changed = {"grad_carry": of_carry, "grad_cell": of_cell, "grad_gates": of_gates, "cell_inputs": cell_inputs}
        changed |= {"grad_gate_columns": self.gate_columns(), "grad_makers": x.new_empty(batch, hidden), **of_weights.as_gradients()}
        changed["grad_delta_out"] = torch.empty_like(self.write.values)
        self._run_back("mb_slots_recurrence_back", gradient, touched_writes, touched_reads, given, changed)
        gates, before = of_gates.flatten(0, 1), tape.carry[:-1, :, :hidden].flatten(0, 1)
        bias = gates.sum(0)
        of_controller = ControllerWeights(gates.t() @ cell_inputs.flatten(0, 1), gates.t() @ before, bias, bias)
        of_x = (gates @ controller.weight_ih[:, :inputs]).view_as(x)
        of_before = ControllerEnds(of_carry[:, :hidden], of_cell, of_carry[:, hidden:].view_as(grad_after.reads))
        return of_x, of_before, of_controller, of_weights
