"""`sam_sequence`: all T steps of SAM or SDNC in one native call, the LSTM controller inside, forward and backward.

`SequencePass` owns the buffers of one pass over one memory, and its tape. It runs the pass, undoes it and replays it.
Equations: Rae et al. 2016, section 3 and supplements A and D; kernel text: `csrc/sequence/`. C = H + R W is the carry: h_t and all reads.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.native.node import differentiable
from mann_bench.kernels.ops.content import PARTS_PER_THREAD
from mann_bench.kernels.sequence import cluster, recurrence
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.kernels.sequence.recurrence import Recurrence, Weights
from mann_bench.kernels.sequence.tape import plan


class DifferentiableStates(NamedTuple):
    """The states of one step that carry a gradient."""

    hidden: Tensor  # [B, H]
    cell: Tensor  # [B, H]
    reads: Tensor  # [B, R, W]
    read_weights: Tensor  # [B, R, K]


class MemoryGradient:
    """The gradient of a memory, of the rows that a chain of passes touches; each pass goes on with what the one after it left.

    Attributes:
        sizes: of the buffers, by the names of `csrc/arguments.h`.
        buffers: hash table from rows to their slots, slots in use, and the gradient of each row.
    """

    def __init__(self, sizes: Mapping[str, int], buffers: Mapping[str, Tensor]) -> None:
        self.sizes, self.buffers = {**sizes, "continued": 0}, buffers

    @classmethod
    def zeros(cls, passes: "Sequence[SequencePass]") -> "MemoryGradient":
        """Make room for all rows that these passes touch, the last pass first; the native call fills it with zeros."""
        last, first = passes[0], passes[-1]
        batch, width, new = first.sizes["batch"], last.sizes["width"], last.carry.new_empty
        rows = min(max(each.max_candidates() for each in passes), sum(each.plan.touched for each in passes))
        table = 1 << (2 * sum(each.plan.accesses for each in passes) - 1).bit_length()
        buffers = {
            "slot_hash": new((batch, 2, table), dtype=torch.int32),
            "touched_count": new(batch, dtype=torch.int32),
            "row_gradient": new(batch, rows, width),
        }
        narrow = last.sizes["batch"]  # the last passes may be over the first elements only
        if narrow < batch:
            buffers["slot_hash"][narrow:] = -1
            buffers["touched_count"][narrow:] = 0
        return cls({"table_size": table, "touched_stride": rows}, buffers)


class MemoryOwner(Protocol):
    """Who keeps track of where the memory stands that a pass changes in place."""

    def join(self) -> object:
        """Return what the graph of this pass is to hold: when it is gone, no backward can come."""

    def require_last(self) -> None:
        """RuntimeError unless the backward of this pass is due."""

    def memory_gradient(self) -> MemoryGradient | None:
        """What backward begins with and leaves for the pass before; None for a pass on its own."""

    def finish_backward(self, gradient: MemoryGradient | None) -> None:
        """Note that backward has rolled the memory back to the start of the pass; `gradient` is that of the memory there."""


class SequencePass(Recurrence):
    """One pass over one memory: its sizes, its buffers and its tape.

    Args:
        which: build of the kernels.
        sizes: sizes that do not change from call to call, by the names of `csrc/arguments.h`.
        now: sizes that do: where memory and ring stand (num_candidates, ring_tail, queue_stride), and threads.
        memory: buffers of the memory, which the pass changes in place.
        lengths: of the elements, where they differ from the number of steps.
        counts: int64 [B], candidate rows of each element, where they differ; num_candidates is the most.

    Attributes:
        last_constant: the states after the last step that carry no gradient, by name.
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {}  # its tensors count as those of the pass that holds it

    def __init__(
        self,
        which: Build,
        sizes: Mapping[str, int],
        now: Mapping[str, int],
        memory: Mapping[str, Tensor],
        lengths: Lengths | None = None,
        counts: Tensor | None = None,
    ) -> None:
        device = memory["memory"].device
        is_short = recurrence.is_short(sizes["steps"], sizes["batch"], device, lengths)
        of = plan(which, (*sizes,), (*sizes.values(),), device, is_short)
        super().__init__(of, now, device, ("mb_forward", "mb_backward"), lengths)
        self.memory = memory
        if counts is not None:
            self.given["counts"] = counts
        if shared_bytes := cluster.bytes_of_pass(which, sizes, device):
            self.set_sizes({"shared_bytes": shared_bytes})

    def run(
        self, x: Tensor, weights: Weights, before: DifferentiableStates, constant: Mapping[str, Tensor]
    ) -> tuple[Tensor, DifferentiableStates]:
        """Run forward: x [T, B, X] -> y [T, B, Y] and the states after the last step; the constant ones go to `last_constant`.

        Args:
            before: states before the first step.
            constant: those without a gradient, by name: read_index, and for SDNC precedence_rows and precedence.
        """
        of = self.plan
        # not the graph that x may come from, as of the pass before
        self.x, self.weights = x.detach() if x.requires_grad else x, weights
        self.carry, self.tape = x.new_empty(of.shapes["carry"]), x.new_empty(of.blocks["tape"].shape)
        firsts, lasts = names_of_ends((*DifferentiableStates._fields, *constant))
        first = [*before, *constant.values()]
        last = [*map(torch.empty_like, first)]
        after = DifferentiableStates(*last[: len(before)])
        self.last_constant = dict(zip(constant, last[len(before) :], strict=True))
        changed = {**dict(zip(lasts, last, strict=True)), **self._search()}
        return self.run_forward(dict(zip(firsts, first, strict=True)), changed), after

    def backward(
        self, grad_y: Tensor | None, grad_last: Sequence[Tensor | None], needs: Sequence[bool], gradient: MemoryGradient | None = None
    ) -> list[Tensor | None]:
        """Run backward, which rolls the memory back to the start of the pass.

        Args:
            grad_y: gradient of y [T, B, Y], or None.
            grad_last: gradients of the differentiable states after the last step, or None each.
            needs: whether x and each of the states before the first step need a gradient.
            gradient: of the memory after the last step, in a chain of passes; it becomes that before the first step.

        Returns:
            Gradients of x, of the states before the first step, and of the fields of `Weights`.
        """
        states = self.carry.new_zeros(self.plan.blocks["grads"].shape)
        if any(grad is not None for grad in grad_last):
            for part, grad in zip(self._parts_of_states(states), grad_last, strict=True):
                if grad is not None:
                    part.copy_(grad)
        changed = {"grads": states}
        if gradient is None:
            touched, size = min(self.max_candidates(), self.plan.touched), self.plan.size
            self.set_sizes({"touched_stride": touched})
            changed["row_gradient"] = self.carry.new_empty((size["batch"], touched, size["width"]))
        else:
            self.set_sizes(gradient.sizes)
            of_elements = {name: buffer[: self.plan.size["batch"]] for name, buffer in gradient.buffers.items()}
            changed |= of_elements  # given after the block `lines`, they take the place of those in it
        grad_x, grad_weights = self.run_backward(grad_y, {}, changed, needs_x=needs[0])
        if gradient is not None:
            gradient.sizes["continued"] = 1
        grad_states = self._parts_of_states(states) if any(needs[1:]) else [None] * len(needs[1:])
        return [grad_x, *grad_states, *grad_weights]

    def undo(self) -> None:
        """Undo the whole pass, bit for bit; the caller restores the ring's head."""
        self.call("mb_undo", {}, {})

    def redo(self) -> None:
        """Replay an undone pass; the caller restores the ring."""
        self.call("mb_redo", {}, {})

    def call(self, entry: str, inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> None:
        super().call(entry, inputs, {**self.memory, **changed})

    def _parts_of_states(self, grads: Tensor) -> DifferentiableStates:
        """Split the block `grads` into views, one a state."""
        sizes, (_, batch, carry) = self.sizes, self.carry.shape
        hidden, heads = sizes["hidden"], sizes["heads"]
        lengths = [batch * carry, batch * hidden, batch * heads * sizes["reads"]]
        carry_part, cell, weights = (part.view(batch, -1) for part in grads.split(lengths))
        reads = carry_part[:, hidden:].unflatten(1, (heads, -1))
        return DifferentiableStates(carry_part[:, :hidden], cell, reads, weights.unflatten(1, (heads, -1)))

    def max_candidates(self) -> int:
        """Rows of an element that are candidates after the pass, at most."""
        size = self.plan.size
        return min(size["slots"], self.now["num_candidates"] + size["steps"] * size["write_heads"])

    def num_parts(self, num_candidates: int) -> int:
        """Choose how many blocks share the search of one element's rows, of which so many are candidates before the first step."""
        sizes = self.plan.size
        rows = sizes["slots"] if sizes["scan_all"] else num_candidates + sizes["steps"] * sizes["write_heads"]
        return 1 if sizes.get("tables") else search_parts(min(rows, sizes["slots"]), sizes["batch"], self.device, self.now["threads"])

    def _search(self) -> dict[str, Tensor]:
        """Allocate the results of the blocks that share the search of one element's rows; nothing where a single block searches."""
        sizes, batch, parts = self.plan.size, self.plan.size["batch"], self.num_parts(self.now["num_candidates"])
        if parts == 1:
            return {}
        self.set_sizes({"parts": parts})
        scores = self.carry.new_empty(batch, parts, sizes["heads"], sizes["reads"])
        part_scratch = scores.new_empty(batch, parts, self.plan.shapes["part_scratch"][2])
        return {"part_scores": scores, "part_rows": torch.empty_like(scores, dtype=torch.int32), "part_scratch": part_scratch}


@functools.lru_cache
def names_of_ends(states: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of states before and after a pass."""
    return tuple(f"first_{name}" for name in states), tuple(f"last_{name}" for name in states)


ROWS_PER_PART = {"cuda": 4096, "cpu": 16384}  # one block searches fewer rows faster than a launch, or a call, of their own would


def search_parts(rows: int, batch: int, device: torch.device, threads: int) -> int:
    """Choose how many blocks share the search of `rows` rows of each element.

    On a GPU two a multiprocessor in all. On the CPU, where there are fewer elements than threads, several a thread, so that a late or slow
    one takes fewer.
    """
    if rows < 2 * ROWS_PER_PART[device.type]:
        return 1
    if device.type == "cuda":
        blocks = 2 * torch.cuda.get_device_properties(device).multi_processor_count
    else:
        blocks = PARTS_PER_THREAD * threads if batch < threads else 0
    return max(1, min(rows // ROWS_PER_PART[device.type], blocks // batch))


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
    x, states = x.contiguous(), DifferentiableStates._make([state.contiguous() for state in before])
    if not torch.is_grad_enabled():
        y, after = sequence.run(x, weights, states, constant)
        return y, after, sequence.last_constant
    inputs, graph = [x, *states, *weights], owner.join()
    needs = [tensor.requires_grad for tensor in inputs[: 1 + len(states)]]

    def forward() -> list[Tensor]:
        y, last = sequence.run(x, weights, states, constant)
        return [y, *last]

    # It holds `graph`, which the owner watches: torch releases both with its own graph.
    def backward(grad_y: Tensor | None, *grad_last: Tensor | None, graph: object = graph) -> list[Tensor | None]:
        owner.require_last()
        gradient = owner.memory_gradient()
        grads = sequence.backward(grad_y, grad_last, needs, gradient)
        owner.finish_backward(gradient)
        return grads

    y, *last = differentiable(forward, backward, inputs)
    return y, DifferentiableStates(*last), sequence.last_constant
