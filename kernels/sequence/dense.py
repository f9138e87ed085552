"""Models with a dense memory, all T steps in one native call, forward and backward: kernel text: `csrc/dense/`.

A pass keeps one copy of the memory a step, and vectors over its rows. The copies before and after the pass are the caller's.
"""

import functools
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mann_bench.kernels.native.arguments import in_order
from mann_bench.kernels.native.call import scratch
from mann_bench.kernels.native.layout import Build, Shape, of_block
from mann_bench.kernels.native.reuse import unset
from mann_bench.kernels.sequence import recurrence
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.kernels.sequence.recurrence import Recurrence, Weights
from mann_bench.kernels.sequence.shapes import Sizes, call_shapes, controller_tape_shapes, panel_blocks, weight_shapes
from mann_bench.kernels.sequence.tape import Plan, ends, short_lines, short_scratch, with_gradients

CONTROLLER = ("hidden", "cell", "reads")
LINK_STRIDE = 4  # the DNC keeps the link of every fourth step for backward, which makes those between again
CHANGING = ("threads", "first_gradient", "num_candidates")  # sizes that change from call to call


class Kind(NamedTuple):
    """A kind of model.

    Attributes:
        name: of its entry points.
        states: of its memory that carry a gradient, by the names of `csrc/arguments.h`.
        constant: those that carry none.
        tape: what forward keeps of a step besides, by name.
        needs_first: whether backward needs the memory before the first step.
    """

    name: str
    states: tuple[str, ...]
    constant: tuple[str, ...] = ()
    tape: tuple[str, ...] = ()
    needs_first: bool = True


NTM = Kind("ntm", ("memory", "read_weights", "write_weights"), tape=("row_norms", "content_tape"))
DAM = Kind("dam", ("memory", "read_weights"), ("usage",), ("row_norms", "unused_rows"), needs_first=False)
DNC = Kind(
    "dnc",
    ("memory", "usage", "link", "precedence", "write_weights", "read_weights"),
    tape=("row_norms", "content_tape", "usage_order", "direction_tape"),
)


def state_shapes(kind: Kind, size: Sizes) -> dict[str, Shape]:
    """Name the states that go from step to step."""
    batch, slots = size["batch"], size["slots"]
    shapes: dict[str, Shape] = {
        "hidden": (batch, size["hidden"]),
        "cell": (batch, size["hidden"]),
        "reads": (batch, size["heads"], size["width"]),
        "memory": (batch, slots, size["width"]),
        "read_weights": (batch, size["heads"], slots),
        "write_weights": (batch, size["write_heads"], slots),
        "usage": (batch, slots),
        "link": (batch, slots, slots),
        "precedence": (batch, slots),
    }
    return {name: shapes[name] for name in (*CONTROLLER, *kind.states, *kind.constant)}


def tape_shapes(kind: Kind, size: Sizes) -> dict[str, Shape]:
    """Name the buffers that forward keeps for backward: the states between the first and the last step, and what backward reads of a step.

    Without a tape, memory and link are changed in place and the other states alternate between two places. On a tape of one step the
    memory before it may lie, column by column as the kernels work. The memory comes first, so that it is aligned as its tensor is.
    """
    steps, batch, slots, taped = size["steps"], size["batch"], size["slots"], size["taped"]
    states = state_shapes(kind, size)
    between = {name: (steps - 1 if taped else 0 if name in ("memory", "link") else 2, *states[name]) for name in kind.states}
    if taped and "link" in between:
        between["link"] = ((steps - 1) // LINK_STRIDE, *states["link"])
    if taped and steps == 1 and kind.needs_first:
        between["memory"] = (1, *states["memory"])
    of_steps: dict[str, Shape] = {
        "row_norms": (steps + 1 if taped else 2, batch, slots),
        "content_tape": (steps if taped else 0, batch, size["heads"] + size["write_heads"], slots),
        "unused_rows": (steps if taped else 2, batch, size["write_heads"]),
        "usage_order": (steps if taped else 2, batch, slots),
        "direction_tape": (steps if taped else 2, batch, 2 * size["heads"], slots),
    }
    tapes = {f"{name}_tape": shape for name, shape in between.items()}
    return {**tapes, **controller_tape_shapes(size), **{name: of_steps[name] for name in kind.tape}}


@functools.lru_cache
def plan(kind: Kind, which: Build, sizes: tuple[tuple[str, int], ...], device: torch.device, short: bool) -> tuple[Plan, tuple[int, int]]:
    """Plan passes of these sizes; also the numbers of scratch that forward and backward need for an element."""
    size = {**dict(sizes), "link_stride": LINK_STRIDE}
    not_for_scratch = ("steps", "batch", "taped")
    element_scratch = scratch(
        which, tuple((name, value) for name, value in sizes if name not in not_for_scratch), device, f"mb_{kind.name}_scratch"
    )
    tape, shapes, states = tape_shapes(kind, size), call_shapes(size), state_shapes(kind, size)
    shapes["carry"] = carry = tape.pop("carry")
    grads = {"grad_carry": carry[1:], "grad_cell": states["cell"]}
    shapes |= {f"grad_{name}": states[name] for name in kind.states}
    shapes["scratch"] = (size["batch"], None)
    lines = short_lines(shapes) if short else {}
    tape |= short_scratch(size, shapes) if short else {}
    blocks = {name: of_block(which, parts) for name, parts in (("tape", tape), ("lines", lines), ("grads", grads))} | panel_blocks(
        which, size
    )
    named = {**shapes, **ends(states), **with_gradients(weight_shapes(size)), "discount": (1,)}
    return Plan(which, size, array("q", in_order(size)), named, blocks, short), element_scratch


class DensePass(Recurrence):
    """One pass of a model with a dense memory.

    Args:
        sizes: sizes by the names of `csrc/arguments.h`.
        constants: other inputs of forward, by name.
        lengths: of the elements, where they differ from the number of steps.
        short: see `Plan.short`; None: as the number of steps suggests.
    """

    def __init__(
        self,
        kind: Kind,
        which: Build,
        sizes: Mapping[str, int],
        device: torch.device,
        constants: Mapping[str, Tensor],
        lengths: Lengths | None = None,
        short: bool | None = None,
    ) -> None:
        fixed = tuple((name, size) for name, size in sizes.items() if name not in CHANGING)
        if short is None:
            short = recurrence.is_short(sizes["steps"], sizes["batch"], device, lengths)
        of, self.element_scratch = plan(kind, which, fixed, device, short)
        now = {name: size for name, size in sizes.items() if name in CHANGING}
        super().__init__(of, now, device, (f"mb_{kind.name}_forward", f"mb_{kind.name}_backward"), lengths)
        self.kind, self.constants = kind, constants
        self.names = (*CONTROLLER, *kind.states, *kind.constant)

    def run(self, x: Tensor, before: Sequence[Tensor], weights: Weights) -> tuple[Tensor, list[Tensor]]:
        """Run forward: x [T, B, X] and the states before -> y [T, B, Y] and the states after; what backward needs is in carry and tape."""
        self.x, self.weights = x, weights
        self.carry = x.new_empty(self.plan.shapes["carry"])
        self.tape = unset(x, self.plan.blocks["tape"].shape)
        after = [unset(state, state.shape) for state in before]
        first = {f"first_{name}": state for name, state in zip(self.names, before, strict=True)}
        last = {f"last_{name}": state for name, state in zip(self.names, after, strict=True)}
        return self.run_forward({**first, **self.constants}, {**last, **self._scratch(0)}), after

    def backward(
        self,
        grads: Sequence[Tensor | None],
        before: Sequence[Tensor],
        after: Sequence[Tensor],
        needs: Sequence[bool],
    ) -> list[Tensor | None]:
        """Run backward.

        Args:
            grads: gradients of y and of the states after, or None each.
            before: the states before the pass.
            after: the states after it.
            needs: whether x and each of the states before need a gradient.

        Returns:
            Gradients of x, of the states before, and of the fields of `Weights`.
        """
        carry, cell = self._controller_gradients(grads[1:4])
        states = self.gradients_of(before, grads[4:])
        self.set_sizes({"first_gradient": int(needs[1 + len(CONTROLLER)])})
        block = torch.cat([carry.flatten(), cell.flatten()])
        read = self.kind.states
        inputs = {f"{end}_{name}": s for end, of in (("first", before), ("last", after)) for name, s in zip(read, of[3:], strict=False)}
        changed = {
            "grads": block,
            **{f"grad_{name}": grad for name, grad in zip(self.kind.states, states, strict=True)},
            **self._scratch(1),
        }
        grad_x, grad_weights = self.run_backward(grads[0], inputs, changed, needs_x=needs[0])
        of_states = self.split_gradients(block, states)
        return [grad_x, *(grad if needed else None for grad, needed in zip(of_states, needs[1:], strict=True)), *grad_weights]

    def gradients_of(self, states: Sequence[Tensor], grads: Sequence[Tensor | None]) -> list[Tensor]:
        """Make the gradients of the memory's states, which backward changes in place, of those received or zeros; `states`: all of them."""
        return [
            unset(state, state.shape).copy_(grad) if grad is not None else unset(state, state.shape).zero_()
            for state, grad in zip(states[len(CONTROLLER) :][: len(self.kind.states)], grads, strict=False)
        ]

    def split_gradients(self, block: Tensor, states: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradients of all states, from the block of carry and cell and those of the memory's states."""
        batch, hidden, carry = self.sizes["batch"], self.sizes["hidden"], self.carry.shape[-1]
        of_carry, cell = block[: batch * carry].view(batch, carry), block[batch * carry :].view(batch, hidden)
        reads = of_carry[:, hidden:].unflatten(1, (self.sizes["heads"], -1))
        return [of_carry[:, :hidden], cell, reads, *states, *[None] * len(self.kind.constant)]

    def _controller_gradients(self, grads: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        """The gradients of the last carry [B, C] and cell [B, H] from those of hidden state, cell and reads."""
        sizes, (_, batch, width) = self.sizes, self.carry.shape
        carry, cell = self.carry.new_zeros(batch, width), self.carry.new_zeros(batch, sizes["hidden"])
        for part, grad in zip((carry[:, : sizes["hidden"]], cell, carry[:, sizes["hidden"] :]), grads, strict=True):
            if grad is not None:
                part.copy_(grad.flatten(1))
        return carry, cell

    def _scratch(self, direction: int) -> dict[str, Tensor]:
        stride = self.element_scratch[direction]
        self.set_sizes({"scratch_stride": stride})
        return {"scratch": unset(self.carry, (self.sizes["batch"], stride))}

    def hold(self, x: Tensor, weights: Weights, carry: Tensor, tape: Tensor) -> None:
        """Take up the tensors of a pass for its backward."""
        self.x, self.weights, self.carry, self.tape = x, weights, carry, tape

    def release(self) -> None:
        """Leave all tensors to autograd, which may drop and recompute them."""
        del self.x, self.weights, self.carry, self.tape


class _DenseSequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sequence, x, *tensors):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        before, weights = tensors[: len(sequence.names)], tensors[len(sequence.names) :]
        y, after = sequence.run(x, before, Weights(*weights))
        ctx.sequence = sequence
        ctx.save_for_backward(x, *tensors, *after, sequence.carry, sequence.tape)
        sequence.release()
        ctx.mark_non_differentiable(*after[len(after) - len(sequence.kind.constant) :])
        return y, *after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads):  # type: ignore[no-untyped-def]
        sequence, states = ctx.sequence, len(ctx.sequence.names)
        x, *rest = ctx.saved_tensors
        before, weights, (*after, carry, tape) = (
            rest[:states],
            rest[states : states + len(Weights._fields)],
            rest[states + len(Weights._fields) :],
        )
        sequence.hold(x, Weights(*weights), carry, tape)
        try:
            found = sequence.backward(grads, before, after, ctx.needs_input_grad[1 : 2 + states])
        finally:
            sequence.release()
        return None, *found


def dense_sequence(sequence: DensePass, x: Tensor, before: Sequence[Tensor], weights: Weights) -> tuple[Tensor, list[Tensor]]:
    """Run the recurrence as one differentiable call.

    Args:
        sequence: the pass, not yet run.
        x: [T, B, X].
        before: states before the first step, those of the controller and then those of `Kind.states`.

    Returns:
        y [T, B, Y], and the states after the last step.
    """
    y, *after = _DenseSequence.apply(sequence, x.contiguous(), *(state.contiguous() for state in before), *weights)
    return y, after
