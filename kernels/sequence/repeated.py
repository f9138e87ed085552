"""One step of SAM or SDNC as a native call that is packed once and made again and again: from step to step only little of it changes."""

import ctypes
from collections.abc import Mapping, Sequence

from torch import Tensor

from mann_bench.kernels.native.arguments import Arguments
from mann_bench.kernels.native.call import library_of, schedule
from mann_bench.kernels.native.layout import Layout, pack
from mann_bench.kernels.sequence.autograd import DifferentiableStates, SequencePass, names_of_ends
from mann_bench.kernels.sequence.recurrence import Weights


class RepeatedStep(SequencePass):
    """Steps without a tape, on the CPU: a pass of one step, made again and again. States before and after a step take turns in two places.

    Attributes:
        states: before the next step, by name: the differentiable ones, the constant ones, and `ring_head`.
    """

    def prepare(self, x: Tensor, weights: Weights, before: DifferentiableStates, constant: Mapping[str, Tensor]) -> None:
        """Pack the call; nothing runs yet.

        Args:
            x: [1, B, X], of any content.
            weights: as they lie in memory; a change in place is seen by later steps.
            before: states before the first step, each contiguous. The second step overwrites them.
            constant: those without a gradient, by name (`SequencePass.run`).
        """
        _, after = self.run(x, weights, before, constant)
        self.turns = [{**before._asdict(), **constant}, {**after._asdict(), **self.last_constant}]
        firsts, lasts = names_of_ends((*self.turns[0],))
        self.calls = [self.packed, swapped(self.packed, (*firsts, "first_ring_head"), (*lasts, "ring_head"))]
        for states, name in zip(self.turns, ("first_ring_head", "ring_head"), strict=True):
            states["ring_head"] = self.memory[name]
        self.turn = 0
        library = library_of(self.plan.build)
        self.functions = {name: getattr(library, name) for name in schedule(self.entry, self.packed)}
        self.in_turn = () if self.packed.parts > 1 else tuple(self.functions.values())

    def submit(self, entry: str, layout: Layout, inputs: Sequence[Tensor], buffers: Sequence[Tensor]) -> None:
        """Keep the call, and the tensors whose addresses are in it, instead of making it."""
        self.entry, self.held = entry, [*inputs, *buffers]
        self.packed = pack(layout, self.held, self.order)

    @property
    def states(self) -> dict[str, Tensor]:
        return self.turns[self.turn]

    def step(self, x: Tensor, num_candidates: int, ring_tail: int) -> Tensor:
        """Step: x [B, X], contiguous -> y [B, Y]. The queue of the ring has room for what a step appends."""
        arguments, y = self.calls[self.turn], x.new_empty(self.plan.shapes["y"][1:])
        arguments.x, arguments.y = x.data_ptr(), y.data_ptr()
        arguments.num_candidates, arguments.ring_tail = num_candidates, ring_tail
        reference = ctypes.byref(arguments)
        for function in self.in_turn or map(self.functions.__getitem__, schedule(self.entry, arguments)):
            function(reference)
        self.turn = 1 - self.turn
        return y


def swapped(call: Arguments, firsts: Sequence[str], lasts: Sequence[str]) -> Arguments:
    """Make the call that begins where another ends, and ends where that begins."""
    other = Arguments.from_buffer_copy(call)
    for first, last in zip(firsts, lasts, strict=True):
        setattr(other, first, getattr(call, last))
        setattr(other, last, getattr(call, first))
    return other
