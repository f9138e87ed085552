"""Steps on banks of slots that find their slots by product keys, some in one native call: `csrc/slots/access.h` (Cabannes et al. 2026).

Interface vector of a step [P], made of its input [X]: of each head the scores of its write, then of its read, [R, S] each; values [R, W];
decays [R]; strengths [R]. S: scores of all factors.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.ops.product_keys import candidates_of, scratch_numbers
from mann_bench.kernels.sequence.delta import DeltaSteps, Read, Write
from mann_bench.kernels.sequence.lengths import Lengths


class SlotSearch(NamedTuple):
    """How slots are found, and how their scores become weights."""

    sides: tuple[int, ...]  # numbers of each factor
    writes: int  # Kw
    reads: int  # Kr
    weights: str  # "softmax" of the scaled scores of the slots found, or "l2": their scores divided by their Euclidean norm
    scale: float  # of the scores before the softmax


class SlotWeights(NamedTuple):
    """What makes accesses of inputs, or its gradients."""

    interface_weight: Tensor  # [P, X]
    interface_bias: Tensor  # [P]
    log_decay: Tensor  # [R], log A: the logarithm of what a step keeps is -A softplus(its decay + step_bias)
    step_bias: Tensor  # [R]

    def zeros(self) -> Self:
        """As many zeros."""
        return type(self)(*map(torch.zeros_like, self))


class SlotSteps(DeltaSteps):
    """Some steps, in one native call.

    Args:
        memory: the bank [B, R, N, W].
        x: inputs of the steps, [T, B, X].
        weights: that make accesses of them.
        search: how slots are found.
        weighted: as of `DeltaSteps`, like those that follow.
    """

    def __init__(
        self,
        memory: Tensor,
        x: Tensor,
        weights: SlotWeights,
        search: SlotSearch,
        *,
        weighted: bool,
        taped: bool,
        snapshot: str = "exact",
        lengths: Lengths | None = None,
    ) -> None:
        axes, width = (*x.shape[:2], memory.shape[1]), memory.shape[3]

        def reals(*sizes: int) -> Tensor:
            return x.new_empty(*axes, *sizes)

        def rows(count: int) -> Tensor:
            return torch.empty(*axes, count, dtype=torch.int64, device=memory.device)

        write = Write(rows(search.writes), reals(search.writes), reals(width), reals(), reals())  # filled by `forward`
        read = Read(rows(search.reads), reals(search.reads))
        super().__init__(memory, write, read, weighted=weighted, taped=taped, snapshot=snapshot, lengths=lengths)
        count, factors = max(search.writes, search.reads), len(search.sides)
        sides, candidates = candidates_of(search.sides, count, memory.device)
        scratch = max(self.sizes["scratch_stride"], scratch_numbers(factors, count, candidates, x.element_size()))
        self.sizes |= {"input_size": x.shape[2], "interface_size": len(weights.interface_bias), "scratch_stride": scratch}
        self.sizes |= {"factors": factors, "candidates": candidates, "unit_weights": int(search.weights == "l2")}
        self.x, self.weights = x.contiguous(), SlotWeights(*(part.contiguous() for part in weights))
        self.constants = {"sides": sides, "score_scale": x.new_full((1,), search.scale)}
        self.norms = {"score_norms": reals(2)} if search.weights == "l2" else {}

    def forward(self) -> Tensor:
        """Find the slots and run the steps: y [T, B, R, W], zeros beyond the lengths."""
        weights, out = self.weights, self._new(self.write.values)
        interface = functional.linear(self.x, weights.interface_weight, weights.interface_bias)  # not kept: its size grows with N
        given = {"delta_interface": interface, "log_decay": weights.log_decay, "step_bias": weights.step_bias, **self.constants}
        self._call("mb_slot_steps", given, {"delta_out": out, "scratch": self._scratch(), **self.accesses(), **self.norms})
        return out

    def gradients(self, grad: Tensor, gradient: Tensor, touched_writes: Tensor, touched_reads: Tensor, of_weights: SlotWeights) -> Tensor:
        """Run the steps backwards and restore what they overwrote; as `DeltaSteps.backward`, but back to the inputs.

        Args:
            of_weights: what the gradients of the weights are added to.

        Returns:
            Gradient of x.
        """
        of_inputs = torch.empty_like(self.x)
        given = {**self.weights._asdict(), "x": self.x, **self.constants, **self.norms}
        changed = {"grad_inputs": of_inputs, "grad_gate_columns": grad.new_empty(*grad.shape[:3], 2)}
        changed |= {f"grad_{name}": part for name, part in of_weights._asdict().items()}
        self._run_back("mb_slot_steps_back", grad, gradient, touched_writes, touched_reads, given, changed)
        return of_inputs

    def _scratch(self) -> Tensor:
        return self.write.values.new_empty(self.write.decay.numel(), self.sizes["scratch_stride"])
