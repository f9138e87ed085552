"""Steps on banks of slots that find their slots by product keys, some in one native call: `csrc/slots/` (Cabannes et al. 2026).

A bank [B, R, N, W] has N slots for each of R heads. A call changes it in place and keeps what it overwrites; backward restores that.

Interface vector of a step [P], made of its input [X]: of each head the scores of its write, then of its read, [R, S] each; values [R, W];
decays [R]; strengths [R]. S: scores of all factors.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import functional

from mann_bench.kernels.native.arguments import PLACES
from mann_bench.kernels.native.call import call, name_of
from mann_bench.kernels.native.layout import Build, Shape
from mann_bench.kernels.reference.snapshot import ROUNDED_BYTES
from mann_bench.kernels.sequence.lengths import Lengths, RunningSteps
from mann_bench.kernels.sequence.slot_shapes import SlotSearch, slot_plan, table_size
from mann_bench.kernels.sequence.tape import layout


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


class BankSteps:
    """Some steps on a bank, in one native call.

    Args:
        memory: the bank [B, R, N, W].
        steps: T.
        search: how slots are found.
        weights: that make accesses of the inputs.
        input_size: X.
        hidden: H of an LSTM that makes the accesses; 0: the inputs do.
        weighted: whether slot n decays by exp(g k_n) instead of exp(g).
        taped: whether the rows overwritten are kept.
        snapshot: how, one of `snapshot.KINDS`: if rounded, they come back so.
        lengths: steps of each element of these T; None: T.

    Attributes:
        running: the steps that elements have.
        tape: what forward keeps, and what it overwrote; once undone, what it wrote.
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {}  # its tensors count as those of the pass that holds it

    def __init__(
        self,
        memory: Tensor,
        steps: int,
        search: SlotSearch,
        weights: SlotWeights,
        input_size: int,
        *,
        hidden: int = 0,
        weighted: bool,
        taped: bool,
        snapshot: str = "exact",
        lengths: Lengths | None = None,
    ) -> None:
        batch, heads, slots, width = memory.shape
        which = Build(name_of(weights.interface_bias.dtype), name_of(memory.dtype))
        sizes = (
            ("steps", steps),
            ("batch", batch),
            ("heads", heads),
            ("slots", slots),
            ("width", width),
            ("interface_size", len(weights.interface_bias)),
            ("input_size", input_size),
            ("hidden", hidden),
            ("weighted", int(weighted)),
            ("taped", int(taped)),
            ("rounded_bytes", taped * ROUNDED_BYTES[snapshot]),
        )
        self.plan, self.memory, self.real = slot_plan(which, sizes, search, memory.device), memory, weights.interface_bias.dtype
        self.order = self.plan.sizes[:]
        self.order[PLACES["threads"]] = min(torch.get_num_threads(), batch * heads)
        self.given = {} if lengths is None else lengths.buffers(memory.device)
        self.running = RunningSteps(lengths, steps, batch, memory.device)
        self.tape = self.block("tape")

    def new(self, name: str) -> Tensor:
        """Make the tensor of that name; what is not written with lengths counts as zeros."""
        return self._for_all_steps(self.plan.shapes[name])

    def scratch(self, name: str) -> Tensor:
        """Make the tensor of that name, of which nothing is read that was not written."""
        return self.memory.new_empty(self.plan.shapes[name], dtype=self.real)

    def block(self, name: str) -> Tensor:
        """Make the block of that name, as `new` does."""
        return self._for_all_steps(self.plan.blocks[name].shape)

    def _for_all_steps(self, shape: Shape) -> Tensor:
        memory = self.memory
        return memory.new_zeros(shape, dtype=self.real) if self.given else memory.new_empty(shape, dtype=self.real)

    def undo(self) -> None:
        """Restore what the steps overwrote, as it was kept: bit for bit, or rounded."""
        self.call("mb_delta_undo", {}, {})

    def redo(self) -> None:
        """Make the writes again after they were undone, as what was written was kept."""
        self.call("mb_delta_redo", {}, {})

    def call(self, entry: str, inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> None:
        """Call an entry point on buffers, or blocks of the plan, by name."""
        given = {**inputs, **self.given}
        buffers = {"memory": self.memory, "tape": self.tape, **changed}
        call(entry, layout(self.plan, (*given, *buffers)), list(given.values()), list(buffers.values()), self.order)
        increment_version(tuple(buffers.values()))

    def call_back(self, entry: str, gradient: "BankGradient | None", inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> None:
        """Call an entry point that goes back through the steps, on the gradient of the bank after them; None: they are all there are."""
        batch, heads, _, width = self.memory.shape
        changed = {"grads": self.block("grads"), **changed}
        if gradient is None:
            touched = self.plan.touched
            sizes = {"table_size": table_size(touched), "touched_stride": touched, "continued": 0}
            changed["row_gradient"] = self.memory.new_empty(batch, heads, touched, width, dtype=self.real)
        else:
            sizes = gradient.sizes
            changed |= gradient.of_elements(batch)  # given after the block, they take the place of those in it
        for name, size in sizes.items():
            self.order[PLACES[name]] = size
        self.call(entry, inputs, changed)
        if gradient is not None:
            gradient.sizes["continued"] = 1


class BankGradient:
    """The gradient of a bank, of the rows that some calls touch; each goes on with what the one after it left.

    Args:
        calls: that it is for, the last one first; the native call fills it with zeros.

    Attributes:
        sizes: of the buffers, by the names of `csrc/arguments.h`.
        buffers: of each bank its hash table from rows to their slots, slots in use, and the gradient of each row.
    """

    def __init__(self, calls: Sequence[BankSteps]) -> None:
        last = calls[0]
        batch, (_, heads, slots, width), new = max(len(each.memory) for each in calls), last.memory.shape, last.memory.new_empty
        touched = min(slots, sum(each.plan.touched for each in calls))
        self.sizes = {"table_size": table_size(touched), "touched_stride": touched, "continued": 0}
        self.buffers = {
            "slot_hash": new((batch, heads, 2, self.sizes["table_size"]), dtype=torch.int32),
            "touched_count": new((batch, heads), dtype=torch.int32),
            "row_gradient": new((batch, heads, touched, width), dtype=last.real),
        }
        narrow = len(last.memory)  # the last calls may be over the first elements only
        self.buffers["slot_hash"][narrow:] = -1
        self.buffers["touched_count"][narrow:] = 0

    def of_elements(self, count: int) -> dict[str, Tensor]:
        """The buffers of the first elements."""
        return {name: buffer[:count] for name, buffer in self.buffers.items()}

    def cut(self, elements: list[int]) -> None:
        """Set the gradient of some elements to zero."""
        self.buffers["row_gradient"][elements] = 0

    def of_rows(self, slots: int) -> tuple[Tensor, Tensor]:
        """Which rows of a bank of `slots` a head have a gradient, int64 [U] as indices into [B R N], and it, [U, W]."""
        rows, places = self.buffers["slot_hash"].flatten(0, 1).unbind(1)  # [B R, table_size] each
        bank, place = (rows >= 0).nonzero(as_tuple=True)
        return bank * slots + rows[bank, place], self.buffers["row_gradient"].flatten(0, 1)[bank, places[bank, place].long()]


class SlotSteps(BankSteps):
    """Steps whose interface vectors follow from given inputs: they are all made at once."""

    def run(self, x: Tensor, weights: SlotWeights) -> Tensor:
        """Find the slots and run the steps.

        Args:
            x: inputs [T, B, X], contiguous.
            weights: that make accesses of them.

        Returns:
            y [T, B, R, W], zeros beyond the lengths.
        """
        out = self.new("delta_out")
        interface = functional.linear(x, weights.interface_weight, weights.interface_bias)  # not kept: its size grows with N
        given = {"delta_interface": interface, "log_decay": weights.log_decay, "step_bias": weights.step_bias, **self.plan.constants}
        self.call("mb_slot_steps", given, {"delta_out": out, "scratch": self.scratch("scratch")})
        return out

    def gradients(self, x: Tensor, weights: SlotWeights, grad: Tensor, gradient: BankGradient | None, of_weights: SlotWeights) -> Tensor:
        """Run the steps backwards and restore what they overwrote.

        Args:
            x: as of `run`, with `weights`.
            grad: of y, [T, B, R, W].
            gradient: of the bank after the steps; it becomes that before them. None: no other steps ask for it.
            of_weights: what the gradients of the weights are added to.

        Returns:
            Gradient of x.
        """
        of_x = torch.empty_like(x)
        given = {**weights._asdict(), "x": x, "grad_delta_out": grad.contiguous(), **self.plan.constants}
        self.call_back("mb_slot_steps_back", gradient, given, {"grad_makers": of_x, **of_weights.as_gradients()})
        return of_x
