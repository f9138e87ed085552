"""`sam_sequence`: all T steps of SAM or SDNC in one native call, the LSTM controller inside, forward and backward.

`SequencePass` owns the buffers of one pass over one memory, and its tape. It runs the pass, undoes it and replays it.
Equations: Rae et al. 2016, section 3 and supplements A and D; kernel text: `csrc/sequence/`. C = H + R W is the carry: h_t and all reads.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mann_bench.kernels.autocast import without_autocast
from mann_bench.kernels.native.arguments import PLACES
from mann_bench.kernels.native.call import call
from mann_bench.kernels.native.clocks import watching
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.sequence import cluster
from mann_bench.kernels.sequence.tape import layout, plan


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


class DifferentiableStates(NamedTuple):
    """The states of one step that carry a gradient."""

    hidden: Tensor  # [B, H]
    cell: Tensor  # [B, H]
    reads: Tensor  # [B, R, W]
    read_weights: Tensor  # [B, R, K]


class MemoryOwner(Protocol):
    """Who keeps track of where the memory stands that a pass changes in place."""

    def require_pending(self) -> None:
        """RuntimeError unless the backward of this pass is due."""

    def finish_rollback(self) -> None:
        """Note that backward has rolled the memory back to the start of the pass."""


class SequencePass:
    """One pass over one memory: its sizes, its buffers and its tape.

    Args:
        which: build of the kernels.
        sizes: sizes that do not change from call to call, by the names of `csrc/arguments.h`.
        now: sizes that do: where memory and ring stand (num_candidates, ring_tail, queue_stride), and threads.
        memory: buffers of the memory, which the pass changes in place.

    Attributes:
        carry: [T + 1, B, C], hidden state and reads of every step, from before the first one on.
        last_constant: the states after the last step that carry no gradient, by name.
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {}  # its tensors count as those of the pass that holds it

    def __init__(self, which: Build, sizes: Mapping[str, int], now: Mapping[str, int], memory: Mapping[str, Tensor]) -> None:
        self.memory, self.device = memory, memory["memory"].device
        self.short = is_short(sizes["steps"], sizes["batch"], self.device)
        self.plan = plan(which, tuple(sizes.items()), self.device, self.short)
        self.sizes = {**sizes, **now}
        self.order = self.plan.sizes[:]
        self.clocks = watching()
        self._set({**now, "shared_bytes": cluster.bytes_of_pass(which, sizes, self.device)})

    def run(
        self, x: Tensor, weights: Weights, before: DifferentiableStates, constant: Mapping[str, Tensor]
    ) -> tuple[Tensor, DifferentiableStates]:
        """Run forward: x [T, B, X] -> y [T, B, Y] and the states after the last step; the constant ones go to `last_constant`.

        Args:
            before: states before the first step.
            constant: those without a gradient, by name: read_index, and for SDNC precedence_rows and precedence.
        """
        self.x, self.weights = x, weights
        self.carry, self.tape = x.new_empty(self.plan.shapes["carry"]), x.new_empty(self.plan.blocks["tape"].shape)
        first = {**before._asdict(), **constant}
        last = {name: torch.empty_like(state) for name, state in first.items()}
        after = DifferentiableStates(*(last[name] for name in DifferentiableStates._fields))
        self.last_constant = {name: last[name] for name in constant}
        inputs = {
            **self._matrices(),
            **self._columns(),
            "interface_bias": weights.interface_bias,
            **{f"first_{name}": state for name, state in first.items()},
        }
        changed = {**{f"last_{name}": state for name, state in last.items()}, **self._search(), **self._clocks("forward")}
        if self.short:
            y = x.new_empty(self.plan.shapes["y"])
            others = {name: getattr(weights, name) for name in ("bias_ih", "bias_hh", "output_weight", "output_bias")}
            changed |= {"input": x.new_empty(self.plan.shapes["input"]), "y": y}
            self._call("mb_forward", {**inputs, "x": x, **others}, changed)
            return y, after
        inputs["input"] = functional.linear(x, weights.weight_ih[:, : x.shape[2]], weights.bias_ih + weights.bias_hh)
        self._call("mb_forward", inputs, changed)
        return functional.linear(self.carry[1:], weights.output_weight, weights.output_bias), after

    def backward(self, grad_y: Tensor | None, grad_last: Sequence[Tensor | None], needs: Sequence[bool]) -> list[Tensor | None]:
        """Run backward, which rolls the memory back to the start of the pass.

        Args:
            grad_y: gradient of y [T, B, Y], or None.
            grad_last: gradients of the differentiable states after the last step, or None each.
            needs: whether x and each of the states before the first step need a gradient.

        Returns:
            Gradients of x, of the states before the first step, and of the fields of `Weights`.
        """
        sizes, shapes, blocks, new = self.sizes, self.plan.shapes, self.plan.blocks, self.carry.new_empty
        grad_y = self.carry.new_zeros(shapes["y"]) if grad_y is None else grad_y.contiguous()
        states = grad_y.new_zeros(blocks["grads"].shape)
        if any(grad is not None for grad in grad_last):
            for part, grad in zip(self._parts_of_states(states), grad_last, strict=True):
                if grad is not None:
                    part.copy_(grad)
        sizes["touched_stride"] = min(sizes["slots"], sizes["num_candidates"] + sizes["steps"] * sizes["write_heads"], self.plan.touched)
        self._set({"touched_stride": sizes["touched_stride"]})
        grad_gates = new(shapes["grad_gates"])
        changed = {
            "grad_gates": grad_gates,
            "grads": states,
            "lines": new(blocks["lines"].shape),
            "row_gradient": new(sizes["batch"], sizes["touched_stride"], sizes["width"]),
            **self._clocks("backward"),
        }
        grad_weights = self._short_backward(grad_y, changed) if self.short else self._long_backward(grad_y, changed)
        grads: list[Tensor | None] = [None] * len(needs)
        if needs[0]:
            grads[0] = (grad_gates.flatten(0, 1) @ self.weights.weight_ih[:, : self.x.shape[2]]).view_as(self.x)
        if any(needs[1:]):
            grads[1:] = self._parts_of_states(states)
        return [*grads, *grad_weights]

    def _short_backward(self, grad_y: Tensor, changed: Mapping[str, Tensor]) -> Weights:
        """Compute the gradients of the weights in the same native call."""
        weights = self.weights
        grads = Weights(*map(torch.empty_like, weights))
        grad_weights = {f"grad_{name}": grad for name, grad in grads._asdict().items()}
        inputs = {"x": self.x, "grad_y": grad_y, **self._matrices(), "output_weight": weights.output_weight}
        self._call("mb_backward", inputs, {**changed, **grad_weights})
        return grads

    def _long_backward(self, grad_y: Tensor, changed: Mapping[str, Tensor]) -> Weights:
        """Compute the gradients of the weights as matrix products after the native call."""
        carry, hidden, weights = self.carry.shape[-1], self.sizes["hidden"], self.weights
        grad_interface, cell_inputs = (grad_y.new_empty(self.plan.shapes[name]) for name in ("grad_interface", "cell_inputs"))
        inputs = {"x": self.x, "grad_features": grad_y @ weights.output_weight, **self._matrices()}
        self._call("mb_backward", inputs, {**changed, "grad_interface": grad_interface, "cell_inputs": cell_inputs})
        gates, interface, output = (grad.flatten(0, 1) for grad in (changed["grad_gates"], grad_interface, grad_y))
        before, after = self.carry[:-1].view(-1, carry), self.carry[1:].view(-1, carry)
        bias = gates.sum(0)
        return Weights(
            gates.t() @ cell_inputs.flatten(0, 1),
            gates.t() @ before[:, :hidden],
            bias,
            bias,
            interface.t() @ after[:, :hidden],
            interface.sum(0),
            output.t() @ after,
            output.sum(0),
        )

    def undo(self) -> None:
        """Undo the whole pass, bit for bit; the caller restores the ring's head."""
        self._call("mb_undo", {}, {})

    def redo(self) -> None:
        """Replay an undone pass; the caller restores the ring."""
        self._call("mb_redo", {}, {})

    def _call(self, entry: str, inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> None:
        buffers = {**self.memory, "carry": self.carry, "tape": self.tape, **changed}
        call(entry, layout(self.plan, (*inputs, *buffers)), list(inputs.values()), list(buffers.values()), self.order)

    def _set(self, sizes: Mapping[str, int]) -> None:
        for name, size in sizes.items():
            self.order[PLACES[name]] = size

    def _matrices(self) -> dict[str, Tensor]:
        weights = self.weights
        return {"weight_ih": weights.weight_ih, "weight_hh": weights.weight_hh, "interface_weight": weights.interface_weight}

    def _columns(self) -> dict[str, Tensor]:
        """Transpose the matrices of the recurrence, where that pays (`in_columns`)."""
        if not in_columns(self.sizes["steps"], self.sizes["batch"], self.device):
            return {}
        weights = self.weights
        carry = torch.cat([weights.weight_hh.t(), weights.weight_ih[:, self.x.shape[2] :].t()])
        return {"carry_columns": carry, "interface_columns": weights.interface_weight.t().contiguous()}

    def _parts_of_states(self, grads: Tensor) -> DifferentiableStates:
        """Split the block `grads` into views, one a state."""
        sizes, (_, batch, carry) = self.sizes, self.carry.shape
        hidden, heads = sizes["hidden"], sizes["heads"]
        lengths = [batch * carry, batch * hidden, batch * heads * sizes["reads"]]
        carry_part, cell, weights = (part.view(batch, -1) for part in grads.split(lengths))
        reads = carry_part[:, hidden:].unflatten(1, (heads, -1))
        return DifferentiableStates(carry_part[:, :hidden], cell, reads, weights.unflatten(1, (heads, -1)))

    def _clocks(self, direction: str) -> dict[str, Tensor]:
        return self.clocks.start(direction, self.sizes["batch"], self.device) if self.clocks else {}

    def _search(self) -> dict[str, Tensor]:
        """Allocate the results of thread blocks that share the search of one element's rows; nothing where a single block searches."""
        sizes, batch = self.sizes, self.sizes["batch"]
        rows = sizes["slots"] if sizes["scan_all"] else sizes["num_candidates"] + sizes["steps"] * sizes["write_heads"]
        parts = 1 if sizes.get("tables") else search_parts(min(rows, sizes["slots"]), batch, self.device)
        if parts == 1:
            return {}
        self._set({"parts": parts})
        scores = self.carry.new_empty(batch, parts, sizes["heads"], sizes["reads"])
        part_scratch = scores.new_empty(batch, parts, self.plan.shapes["part_scratch"][2])
        return {"part_scores": scores, "part_rows": torch.empty_like(scores, dtype=torch.int32), "part_scratch": part_scratch}


SHORT = 128  # steps x batch up to which in-kernel products beat separate torch calls


def is_short(steps: int, batch: int, device: torch.device) -> bool:
    """Whether the native call also computes the output layer and the gradients of the weights, rather than torch around it."""
    return device.type == "cpu" and steps * batch <= SHORT


def in_columns(steps: int, batch: int, device: torch.device) -> bool:
    """Whether forward multiplies with transposed matrices, which puts the sums of several batch elements into one vector register."""
    return device.type == "cpu" and batch > 1 and steps * batch >= 64


ROWS_PER_PART = 4096  # one block searches fewer rows faster than a launch of their own would


def search_parts(rows: int, batch: int, device: torch.device) -> int:
    """Choose the number of blocks that share the search of `rows` rows of each element: two a multiprocessor in all; 1 on the CPU."""
    if device.type != "cuda":
        return 1
    blocks = 2 * torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(rows // ROWS_PER_PART, blocks // batch))


class _SamSequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sequence, owner, constant, x, hidden, cell, reads, read_weights, *weights):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        ctx.sequence, ctx.owner = sequence, owner
        y, last = sequence.run(x, Weights(*weights), DifferentiableStates(hidden, cell, reads, read_weights), constant)
        return y, *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y, *grad_last):  # type: ignore[no-untyped-def]
        ctx.owner.require_pending()
        with without_autocast(ctx.sequence.device):
            grads = ctx.sequence.backward(grad_y, grad_last, ctx.needs_input_grad[3:8])
        ctx.owner.finish_rollback()
        return None, None, None, *grads


def sam_sequence(
    sequence: SequencePass,
    owner: MemoryOwner,
    x: Tensor,
    before: DifferentiableStates,
    constant: Mapping[str, Tensor],
    weights: Weights,
) -> tuple[Tensor, DifferentiableStates, dict[str, Tensor]]:
    """Run the recurrence as one differentiable call.

    Args:
        sequence: the pass, not yet run.
        owner: asked before backward, and told after it that the memory is back at its start.
        x: [T, B, X].
        before: states before the first step.
        constant: those without a gradient, by name (`SequencePass.run`).

    Returns:
        y [T, B, Y], and the states after the last step: differentiable ones, constant ones.
    """
    states = [state.contiguous() for state in before]
    y, *last = _SamSequence.apply(sequence, owner, constant, x.contiguous(), *states, *weights)
    return y, DifferentiableStates(*last), sequence.last_constant
