"""SDM behind an LSTM, all steps in one native call, forward and backward: `csrc/slots/recurrence.h` (Cabannes et al. 2026)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.native.clocks import watching
from mann_bench.kernels.sequence.recurrence import room_for_panels
from mann_bench.kernels.sequence.slot_steps import BankGradient, BankSteps, SlotWeights


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


class SlotRecurrence(BankSteps):
    """A pass of SDM behind an LSTM. The interface vector of a step is not kept: its size grows with N."""

    def run(self, x: Tensor, before: ControllerEnds, controller: ControllerWeights, weights: SlotWeights) -> tuple[Tensor, ControllerEnds]:
        """Run all steps.

        Args:
            x: [T, B, X].
            before: states before the first step, contiguous.
            controller: weights of the LSTM, contiguous.
            weights: that make accesses of its hidden state, contiguous.

        Returns:
            The carry, [T + 1, B, H + R W]: hidden state and reads, from before the first step on; and the states after the last step of
            each element.
        """
        self.clocks = watching()
        carry, after = self.new("carry"), ControllerEnds(*map(torch.empty_like, before))
        given = {f"first_{name}": part for name, part in before._asdict().items()}
        of_x = functional.linear(self.running.take(x), controller.weight_ih[:, : x.shape[2]], controller.bias_ih + controller.bias_hh)
        given["input"] = self.running.spread(of_x, zeros=False)
        given |= {"weight_ih": controller.weight_ih, "weight_hh": controller.weight_hh, **weights._asdict(), **self.plan.constants}
        changed = {"carry": carry, **{f"last_{name}": part for name, part in after._asdict().items()}, **self.clock("forward")}
        changed |= {name: self.scratch(name) for name in ("delta_interface", "scratch")} | room_for_panels(self.plan, "panels", carry)
        self.call("mb_slots_forward", given, {**changed, "delta_out": self.new("delta_out")})
        return carry, after

    def gradients(
        self,
        x: Tensor,
        controller: ControllerWeights,
        weights: SlotWeights,
        carry: Tensor,
        grad_features: Tensor,
        grad_after: ControllerEnds,
        gradient: BankGradient | None,
    ) -> tuple[Tensor, ControllerEnds, ControllerWeights, SlotWeights]:
        """Run the steps backwards and restore what they overwrote.

        Args:
            x: as of `run`, with `controller` and `weights`.
            carry: as `run` returned it.
            grad_features: of hidden state and reads of each step, [T, B, H + R W].
            grad_after: of the states after the pass.
            gradient: as of `SlotSteps.gradients`.

        Returns:
            Gradients of x, of the states before the pass, and of the weights.
        """
        inputs, hidden = x.shape[2], grad_after.hidden.shape[1]
        of_carry = torch.cat([grad_after.hidden, grad_after.reads.flatten(1)], dim=1)
        of_cell, of_weights = grad_after.cell.clone(), weights.zeros()
        of_gates, cell_inputs = self.scratch("grad_gates"), self.scratch("cell_inputs")
        given = {"x": x, "weight_ih": controller.weight_ih, "weight_hh": controller.weight_hh, "grad_features": grad_features.contiguous()}
        given |= {**weights._asdict(), "carry": carry, **self.plan.constants}
        changed = {"grad_carry": of_carry, "grad_cell": of_cell, "grad_gates": of_gates, "cell_inputs": cell_inputs}
        changed |= {name: self.scratch(name) for name in ("grad_makers", "grad_delta_out")} | room_for_panels(
            self.plan, "panels_back", carry
        )
        self.call_back("mb_slots_recurrence_back", gradient, given, {**changed, **of_weights.as_gradients(), **self.clock("backward")})
        gates, given_to, before = map(self.running.take, (of_gates, cell_inputs, carry[:-1, :, :hidden]))
        bias = gates.sum(0)
        of_controller = ControllerWeights(gates.t() @ given_to, gates.t() @ before, bias, bias)
        of_x = self.running.spread(gates @ controller.weight_ih[:, :inputs], zeros=True)
        of_before = ControllerEnds(of_carry[:, :hidden], of_cell, of_carry[:, hidden:].view_as(grad_after.reads))
        return of_x, of_before, of_controller, of_weights

    def clock(self, direction: str) -> dict[str, Tensor]:
        """The buffer for the times of the phases, by name, if they are asked for."""
        return self.clocks.start(direction, len(self.memory), self.memory.device) if self.clocks else {}
