"""Steps on banks of slots that also find their slots by product keys, some in one native call: `csrc/slots/access.h` (Cabannes et al. 2026).

Interface vector of a step [P]: of each head the scores of its write, then of its read, [R, S] each; values [R, W]; decays [R]; strengths
[R]. What may follow is not read. S: scores of all factors.
"""

from typing import NamedTuple

import torch
from torch import Tensor

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


class SlotSteps(DeltaSteps):
    """Some steps, in one native call.

    Args:
        memory: the bank [B, R, N, W].
        interface: of all steps, [T, B, P].
        log_decay: [R], log A: the logarithm of what a step keeps is -A softplus(its decay + step_bias).
        step_bias: [R].
        search: how slots are found.
        weighted: as of `DeltaSteps`, like those that follow.
    """

    def __init__(
        self,
        memory: Tensor,
        interface: Tensor,
        log_decay: Tensor,
        step_bias: Tensor,
        search: SlotSearch,
        *,
        weighted: bool,
        taped: bool,
        snapshot: str = "exact",
        lengths: Lengths | None = None,
    ) -> None:
        axes, width = (*interface.shape[:2], memory.shape[1]), memory.shape[3]

        def reals(*sizes: int) -> Tensor:
            return interface.new_empty(*axes, *sizes)

        def rows(count: int) -> Tensor:
            return torch.empty(*axes, count, dtype=torch.int64, device=memory.device)

        write = Write(rows(search.writes), reals(search.writes), reals(width), reals(), reals())  # filled by `forward`
        read = Read(rows(search.reads), reals(search.reads))
        super().__init__(memory, write, read, weighted=weighted, taped=taped, snapshot=snapshot, lengths=lengths)
        count, factors = max(search.writes, search.reads), len(search.sides)
        sides, candidates = candidates_of(search.sides, count, memory.device)
        scratch = max(self.sizes["scratch_stride"], scratch_numbers(factors, count, candidates, interface.element_size()))
        self.sizes |= {"interface_size": interface.shape[2], "factors": factors, "candidates": candidates, "scratch_stride": scratch}
        self.sizes["unit_weights"] = int(search.weights == "l2")
        self.interface: Tensor | None = interface  # given up by `forward`: it grows with the factors
        self.gates = {"log_decay": log_decay.contiguous(), "step_bias": step_bias.contiguous()}
        self.gates |= {"sides": sides, "score_scale": interface.new_full((1,), search.scale)}
        self.decays = axes[2] * (2 * sum(search.sides) + width)  # the first of their columns
        self.norms = {"score_norms": reals(2) if search.weights == "l2" else reals()[:0]}

    def forward(self) -> Tensor:
        """Find the slots and run the steps: y [T, B, R, W], zeros beyond the lengths. It is called once."""
        assert self.interface is not None
        out, interface = self._new(self.write.values), self.interface.contiguous()
        self.interface = None
        changed = {"delta_out": out, "scratch": self._scratch(), **self.accesses(), **self.norms}
        self._call("mb_slot_steps", {"delta_interface": interface, **self.gates}, changed)
        return out

    def gradients(self, grad: Tensor, gradient: Tensor, touched_writes: Tensor, touched_reads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the steps backwards and restore what they overwrote; arguments as of `DeltaSteps.backward`.

        Returns:
            Gradients of the interface vectors, of log_decay and of step_bias.
        """
        of_interface = grad.new_zeros(*grad.shape[:2], self.sizes["interface_size"])
        given = {**self.gates, **self.norms}
        changed = {"grad_delta_interface": of_interface}
        found = self._run_back("mb_slot_steps_back", grad, gradient, touched_writes, touched_reads, given, changed)
        of_decays = of_interface[..., self.decays : self.decays + grad.shape[2]]
        return of_interface, (found.decay * self.write.decay).sum((0, 1)), of_decays.sum((0, 1))

    def _scratch(self) -> Tensor:
        return self.write.values.new_empty(self.write.decay.numel(), self.sizes["scratch_stride"])
