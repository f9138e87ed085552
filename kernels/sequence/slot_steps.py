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

    def as_gradients(self) -> dict[str, Tensor]:
        """By the names of the buffers for gradients."""
        return {f"grad_{name}": part for name, part in self._asdict().items()}


class AccessSteps(DeltaSteps):
    """Some steps whose accesses a native call makes itself.

    Args:
        memory: the bank [B, R, N, W].
        steps: T.
        search: how slots are found.
        interface_size: P.
        like: a tensor of the model's number type.
        weighted: as of `DeltaSteps`, like those that follow.
    """

    def __init__(
        self,
        memory: Tensor,
        steps: int,
        search: SlotSearch,
        interface_size: int,
        like: Tensor,
        *,
        weighted: bool,
        taped: bool,
        snapshot: str = "exact",
        lengths: Lengths | None = None,
    ) -> None:
        batch, heads, _, width = memory.shape

        def new(*sizes: int, dtype: torch.dtype = like.dtype) -> Tensor:
            shape = steps, batch, heads, *sizes
            return like.new_empty(shape, dtype=dtype) if lengths is None else like.new_zeros(shape, dtype=dtype)

        write = Write(new(search.writes, dtype=torch.int64), new(search.writes), new(width), new(), new())  # filled by the call
        read = Read(new(search.reads, dtype=torch.int64), new(search.reads))
        super().__init__(memory, write, read, weighted=weighted, taped=taped, snapshot=snapshot, lengths=lengths)
        count, factors = max(search.writes, search.reads), len(search.sides)
        sides, candidates = candidates_of(search.sides, count, memory.device)
        scratch = max(self.sizes["scratch_stride"], scratch_numbers(factors, count, candidates, like.element_size()))
        self.sizes |= {"interface_size": interface_size, "factors": factors, "candidates": candidates, "scratch_stride": scratch}
        self.sizes["unit_weights"] = int(search.weights == "l2")
        self.constants = {"sides": sides, "score_scale": like.new_full((1,), search.scale)}
        self.norms = {"score_norms": new(2)} if search.weights == "l2" else {}

    def gate_columns(self) -> Tensor:
        """Make the buffer for the gradients of what decays and strengths are made of, [T, B, R, 2]."""
        decay = self.write.decay
        return self._new(decay.unsqueeze(-1).expand(*decay.shape, 2))


class SlotSteps(AccessSteps):
    """Steps whose interface vectors follow from given inputs: they are all made at once."""

    def run(self, x: Tensor, weights: SlotWeights) -> Tensor:
        """Find the slots and run the steps.

        Args:
            x: inputs [T, B, X], contiguous.
            weights: that make accesses of them.

        Returns:
            y [T, B, R, W], zeros beyond the lengths.
        """
        out = self._new(self.write.values)
        interface = functional.linear(x, weights.interface_weight, weights.interface_bias)  # not kept: its size grows with N
        given = {"delta_interface": interface, "log_decay": weights.log_decay, "step_bias": weights.step_bias, **self.constants}
        self._call("mb_slot_steps", given, {"delta_out": out, "scratch": self._scratch(), **self.accesses(), **self.norms})
        return out

    def gradients(
        self,
        x: Tensor,
        weights: SlotWeights,
        grad: Tensor,
        gradient: Tensor,
        touched_writes: Tensor,
        touched_reads: Tensor,
        of_weights: SlotWeights,
    ) -> Tensor:
        """Run the steps backwards and restore what they overwrote; as `DeltaSteps.backward`, but back to the inputs.

        Args:
            x: as of `run`, with `weights`.
            of_weights: what the gradients of the weights are added to.

        Returns:
            Gradient of x.
        """
        self.sizes["input_size"] = x.shape[2]
        of_x = torch.empty_like(x)
        given = {**weights._asdict(), "x": x, "grad_delta_out": grad.contiguous(), **self.constants, **self.norms}
        changed = {"grad_makers": of_x, "grad_gate_columns": self.gate_columns(), **of_weights.as_gradients()}
        self._run_back("mb_slot_steps_back", gradient, touched_writes, touched_reads, given, changed)
        return of_x

    def _scratch(self) -> Tensor:
        return self.write.values.new_empty(self.write.decay.numel(), self.sizes["scratch_stride"])
