"""`sam_sequence`: all T steps of SAM or SDNC in one native call, the LSTM controller inside, forward and backward.

`SequencePass` owns the buffers of one pass over one memory, its tape, and knows how to run it, take it back and make it again.
Equations: Rae et al. 2016, section 3 and supplements A and D; kernel text: `csrc/sequence/`. C = H + R W is the carry: h_t and all reads.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mann_bench.kernels.native.arguments import PLACES
from mann_bench.kernels.native.call import Build, call
from mann_bench.kernels.native.clocks import watching
from mann_bench.kernels.sequence.tape import plan


class Weights(NamedTuple):
    """The controller's, an LSTM cell as `nn.LSTMCell` keeps it, over [x_t, r_{t-1}]; the interface's; the output's, over [h_t, r_t]."""

    weight_ih: Tensor  # [4H, X + R W]
    weight_hh: Tensor  # [4H, H]
    bias_ih: Tensor  # [4H]
    bias_hh: Tensor  # [4H]
    interface_weight: Tensor  # [P, H]
    interface_bias: Tensor  # [P]
    output_weight: Tensor  # [Y, C]
    output_bias: Tensor  # [Y]


class SequencePass:
    """One pass: sizes by the names of `csrc/arguments.h`, where memory and ring stand `now` (live, ring_tail, queue_stride, threads), the
    buffers of the memory that it changes in place, and its tape.
    """

    def __init__(self, which: Build, sizes: Mapping[str, int], now: Mapping[str, int], memory: Mapping[str, Tensor]) -> None:
        self.memory, self.device = memory, memory["memory"].device
        self.short = is_short(sizes["steps"], sizes["batch"], self.device)
        self.plan = plan(which, tuple(sizes.items()), self.device, self.short)
        self.sizes = {**sizes, **now}
        self.order = self.plan.sizes[:]
        self.clocks = watching()
        self._set(now)

    def run(self, x: Tensor, weights: Weights, first: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Forward: x [T, B, X] and the states before the first step (hidden, cell, reads, read_weights, read_index, and for SDNC
        precedence_rows, precedence) -> y [T, B, Y] and the same after the last step; `carry` [T + 1, B, C] then holds hidden and reads of
        every step.
        """
        self.x, self.weights = x, weights
        self.carry, self.tape = x.new_empty(self.plan.carry), x.new_empty(self.plan.tape[1])
        last = {name: torch.empty_like(state) for name, state in first.items()}
        inputs = {
            **self._matrices(),
            **self._columns(),
            "interface_bias": weights.interface_bias,
            **{f"first_{name}": state for name, state in first.items()},
        }
        changed = {**{f"last_{name}": state for name, state in last.items()}, **self._search(), **self._clocks("forward")}
        if self.short:
            y = x.new_empty(self.plan.y)
            others = {name: getattr(weights, name) for name in ("bias_ih", "bias_hh", "output_weight", "output_bias")}
            changed |= {"input": x.new_empty(self.plan.input), "y": y}
            self._call("mb_forward", {**inputs, "x": x, **others}, changed)
            return y, last
        inputs["input"] = functional.linear(x, weights.weight_ih[:, : x.shape[2]], weights.bias_ih + weights.bias_hh)
        self._call("mb_forward", inputs, changed)
        return functional.linear(self.carry[1:], weights.output_weight, weights.output_bias), last

    def backward(self, grad_y: Tensor | None, last: Sequence[Tensor | None], needs: Sequence[bool]) -> list[Tensor | None]:
        """From the gradients of y [T, B, Y] and of the last hidden, cell, reads and read weights (None: none) to those of x and the first
        ones (`needs`: which), then of the fields of `Weights`; the memory is rolled back to its start.
        """
        sizes, new = self.sizes, self.carry.new_empty
        grad_y = self.carry.new_zeros(self.plan.y) if grad_y is None else grad_y.contiguous()
        states = grad_y.new_zeros(self.plan.grads[1])
        for of_state, grad in zip(self._of_states(states), last, strict=True) if any(grad is not None for grad in last) else ():
            if grad is not None:
                of_state.copy_(grad)
        sizes["touched_stride"] = min(sizes["slots"], sizes["num_candidates"] + sizes["steps"] * sizes["write_heads"], self.plan.touched)
        self._set({"touched_stride": sizes["touched_stride"]})
        grad_gates = new(self.plan.gates)
        changed = {
            "grad_gates": grad_gates,
            self.plan.grads[0]: states,
            self.plan.lines[0]: new(self.plan.lines[1]),
            "row_gradient": new(sizes["batch"], sizes["touched_stride"], sizes["width"]),
            **self._clocks("backward"),
        }
        of_weights = self._short_backward(grad_y, changed) if self.short else self._long_backward(grad_y, changed)
        grads: list[Tensor | None] = [None] * len(needs)
        if needs[0]:
            grads[0] = (grad_gates.flatten(0, 1) @ self.weights.weight_ih[:, : self.x.shape[2]]).view_as(self.x)
        if any(needs[1:]):
            grads[1:] = self._of_states(states)
        return [*grads, *of_weights]

    def _short_backward(self, grad_y: Tensor, changed: Mapping[str, Tensor]) -> Weights:
        """Everything in the one call."""
        weights = self.weights
        grads = Weights(*map(torch.empty_like, weights))
        of_weights = {f"grad_{name}": grad for name, grad in zip(Weights._fields, grads, strict=True)}
        inputs = {"x": self.x, "grad_y": grad_y, **self._matrices(), "output_weight": weights.output_weight}
        self._call("mb_backward", inputs, {**changed, **of_weights})
        return grads

    def _long_backward(self, grad_y: Tensor, changed: Mapping[str, Tensor]) -> Weights:
        """Gradients of the weights as matrix products after the loop."""
        carry, hidden, weights = self.plan.carry[-1], self.sizes["hidden"], self.weights
        grad_interface, cell_inputs = grad_y.new_empty(self.plan.interface), grad_y.new_empty(self.plan.cell_inputs)
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
        """Take the whole pass back, bit for bit; the ring's head is the caller's."""
        self._call("mb_undo", {}, {})

    def redo(self) -> None:
        """Make an undone pass again; the ring is the caller's."""
        self._call("mb_redo", {}, {})

    def _call(self, entry: str, inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> None:
        buffers = {**self.memory, "carry": self.carry, self.plan.tape[0]: self.tape, **changed}
        call(entry, self.plan.which, ",".join((*inputs, *buffers)), list(inputs.values()), list(buffers.values()), self.order)

    def _set(self, sizes: Mapping[str, int]) -> None:
        for name, size in sizes.items():
            self.order[PLACES[name]] = size

    def _matrices(self) -> dict[str, Tensor]:
        weights = self.weights
        return {"weight_ih": weights.weight_ih, "weight_hh": weights.weight_hh, "interface_weight": weights.interface_weight}

    def _columns(self) -> dict[str, Tensor]:
        """The matrices of the recurrence transposed, where enough is multiplied with them."""
        if not in_columns(self.sizes["steps"], self.sizes["batch"], self.device):
            return {}
        weights = self.weights
        carry = torch.cat([weights.weight_hh.t(), weights.weight_ih[:, self.x.shape[2] :].t()])
        return {"carry_columns": carry, "interface_columns": weights.interface_weight.t().contiguous()}

    def _of_states(self, grads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The parts of the block of gradients that belong to hidden, cell, reads and read weights."""
        sizes, (_, batch, carry) = self.sizes, self.plan.carry
        hidden, heads = sizes["hidden"], sizes["heads"]
        of_carry, cell, weights = (
            part.view(batch, -1) for part in grads.split([batch * carry, batch * hidden, batch * heads * sizes["reads"]])
        )
        return of_carry[:, :hidden], cell, of_carry[:, hidden:].unflatten(1, (heads, -1)), weights.unflatten(1, (heads, -1))

    def _clocks(self, direction: str) -> dict[str, Tensor]:
        return self.clocks.start(direction, self.sizes["batch"], self.device) if self.clocks else {}

    def _search(self) -> dict[str, Tensor]:
        """Where blocks that share the search of an element's rows leave what they found."""
        sizes, batch = self.sizes, self.sizes["batch"]
        rows = sizes["slots"] if sizes["scan_all"] else sizes["num_candidates"] + sizes["steps"] * sizes["write_heads"]
        parts = 1 if sizes.get("tables") else search_parts(min(rows, sizes["slots"]), batch, self.device)
        if parts == 1:
            return {}
        self._set({"parts": parts})
        scores = self.carry.new_empty(batch, parts, sizes["heads"], sizes["reads"])
        part_scratch = scores.new_empty(batch, parts, self.plan.part_scratch)
        return {"part_scores": scores, "part_rows": torch.empty_like(scores, dtype=torch.int32), "part_scratch": part_scratch}


SHORT = 128  # steps of all elements: so few are multiplied sooner here than by as many calls of a library


def is_short(steps: int, batch: int, device: torch.device) -> bool:
    """Whether output layer and gradients of the weights are the native call's work too, rather than torch's around it."""
    return device.type == "cpu" and steps * batch <= SHORT


def in_columns(steps: int, batch: int, device: torch.device) -> bool:
    """Whether forward multiplies with transposed copies: then several elements' sums stand side by side in a register, which pays."""
    return device.type == "cpu" and batch > 1 and steps * batch >= 64


ROWS_PER_PART = 4096  # fewer are searched faster by one block than by a launch of their own


def search_parts(rows: int, batch: int, device: torch.device) -> int:
    """Blocks among which to divide the search of `rows` rows of each of `batch` elements: two a multiprocessor; 1 on the CPU."""
    if device.type != "cuda":
        return 1
    blocks = 2 * torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(rows // ROWS_PER_PART, blocks // batch))


class _SamSequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current, constant, x, hidden, cell, reads, read_weights, *weights):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        ctx.current, sequence = current, current.sequence
        first = {"hidden": hidden, "cell": cell, "reads": reads, "read_weights": read_weights, **constant}
        y, last = sequence.run(x, Weights(*weights), first)
        differentiable = [last.pop(name) for name in ("hidden", "cell", "reads", "read_weights")]
        sequence.last = last  # the others: kept, these would lead back to this node, a cycle nobody frees
        return y, *differentiable

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y, *last):  # type: ignore[no-untyped-def]
        ctx.current.require_pending()
        grads = ctx.current.sequence.backward(grad_y, last, ctx.needs_input_grad[2:7])
        ctx.current.finish()
        return None, None, *grads


def sam_sequence(current: Any, constant: Mapping[str, Tensor], x: Tensor, states: Sequence[Tensor], weights: Weights) -> tuple[Tensor, ...]:
    """The recurrence as one differentiable call: x [T, B, X]; hidden [B, H], cell [B, H], reads [B, R, W] and read weights [B, R, K] of
    the step before -> y [T, B, Y], and the last hidden, cell, reads and read weights.

    `current` holds the `SequencePass` as `.sequence`, is asked by `require_pending()` whether its backward is due and told by
    `finish()` that the memory is back at its start. `constant`: the other states of the step before, which get no gradient; those after
    the last step are then in the pass's `last`.
    """
    return _SamSequence.apply(current, constant, x, *states, *weights)
