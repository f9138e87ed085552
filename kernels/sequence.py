"""`sam_sequence`: all T steps of SAM or SDNC in one native call, the LSTM controller inside, forward and backward.

`SequencePass` owns the buffers of one pass over one memory, its tape, and knows how to run it, take it back and make it again.
Equations: Rae et al. 2016, section 3 and supplements A and D; kernel text: `csrc/sequence.h`. C = H + R W is the carry: h_t and all reads.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mann_bench.kernels.call import Build, call, scratch


class Weights(NamedTuple):
    """The controller's: an LSTM cell as `nn.LSTMCell` keeps it, over [x_t, r_{t-1}], and the interface layer."""

    weight_ih: Tensor  # [4H, X + R W]
    weight_hh: Tensor  # [4H, H]
    bias_ih: Tensor  # [4H]
    bias_hh: Tensor  # [4H]
    interface_weight: Tensor  # [P, H]
    interface_bias: Tensor  # [P]


class SequencePass:
    """One pass: sizes by the names of `csrc/arguments.h`, the buffers of the memory it changes in place, and its tape if `taped`."""

    def __init__(self, which: Build, sizes: Mapping[str, int], memory: Mapping[str, Tensor], *, taped: bool) -> None:
        self.which, self.memory, self.taped = which, dict(memory), taped
        self.sizes = {**sizes, "taped": int(taped)}
        self.tape: dict[str, Tensor] = {}
        self.end: dict[str, Tensor] = {}  # states after the last step
        self.device = memory["memory"].device
        self.sizes["scratch_stride"], self.part_scratch = scratch(which, self.sizes, self.device)

    def run(self, x: Tensor, weights: Weights, start: Mapping[str, Tensor]) -> Tensor:
        """Forward: x [T, B, X], start (carry [B, C], cell, read_index, read_weights, and for SDNC precedence_rows, precedence) -> carry
        [T + 1, B, C]. The other states after the last step are then in `end`.
        """
        self.x, self.weights = x, weights
        self.tape = self._allocate(x, weights.interface_bias.numel())
        for name, value in start.items():
            self.tape[name][0] = value
        inputs = functional.linear(x, weights.weight_ih[:, : x.shape[2]], weights.bias_ih + weights.bias_hh)
        call(
            "mb_forward",
            self.which,
            {"input": inputs, **self._matrices(), "interface_bias": weights.interface_bias},
            self._buffers(x, **self._search(x)),
            self.sizes,
        )
        last = self.sizes["steps"] if self.taped else self.sizes["steps"] % 2
        self.end = {name: self.tape[name][last].clone() for name in start if name != "carry"}
        carry = self.tape["carry"]
        if not self.taped:
            self.tape = {}
        return carry

    def backward(self, features: Tensor, carry: Tensor, cell: Tensor, read_weights: Tensor, *, needs_x: bool) -> tuple[Tensor | None, ...]:
        """From the gradients of the features [T, B, C] and of the last carry, cell and read weights to those of x (if needed), the fields
        of `Weights`, and the first carry, cell and read weights; the memory is rolled back to its start.
        """
        tape, batch, hidden = self.tape, self.sizes["batch"], self.sizes["hidden"]
        last = {"grad_carry": carry, "grad_cell": cell, "grad_weights": read_weights}
        grads = {name: grad.clone(memory_format=torch.contiguous_format) for name, grad in last.items()}  # the first ones at return
        grads |= {"grad_gates": torch.empty_like(tape["gates"]), "grad_interface": torch.empty_like(tape["interface"])}
        inputs = {"grad_features": features.contiguous(), **self._matrices()}
        call("mb_backward", self.which, inputs, self._buffers(carry, **self._lines(), **grads), self.sizes)
        gates, interface, carries = grads["grad_gates"].flatten(0, 1), grads["grad_interface"].flatten(0, 1), tape["carry"].flatten(0, 1)
        inputs_and_hidden = torch.cat([self.x.flatten(0, 1), carries[:-batch, hidden:], carries[:-batch, :hidden]], dim=1)
        grad_ih, grad_hh = (gates.t() @ inputs_and_hidden).split([inputs_and_hidden.shape[1] - hidden, hidden], dim=1)
        bias = gates.sum(0)
        grad_x = (gates @ self.weights.weight_ih[:, : self.x.shape[2]]).view_as(self.x) if needs_x else None
        of_weights = grad_ih, grad_hh, bias, bias.clone(), interface.t() @ carries[batch:, :hidden], interface.sum(0)
        return grad_x, *of_weights, grads["grad_carry"], grads["grad_cell"], grads["grad_weights"]

    def undo(self) -> None:
        """Take the whole pass back, bit for bit; the ring's head is the caller's."""
        call("mb_undo", self.which, {}, self._buffers(self.tape["carry"]), self.sizes)

    def redo(self) -> None:
        """Make an undone pass again; the ring is the caller's."""
        call("mb_redo", self.which, {}, self._buffers(self.tape["carry"]), self.sizes)

    @property
    def accesses(self) -> int:
        """Rows that a step writes, reads and, for SDNC, looks up."""
        sizes = self.sizes
        return sizes["writers"] * (1 + self.support) + sizes["heads"] * sizes["reads"] * (2 if sizes.get("links") else 1)

    @property
    def support(self) -> int:
        """S: rows that a write head takes over from the step before."""
        sizes = self.sizes
        return sizes["reads"] * (1 if sizes["writers"] == sizes["heads"] else sizes["heads"])

    def _lines(self) -> dict[str, Tensor]:
        """A line of the memory gradient for each touched row: 4 bytes an access, W numbers a row, nothing of size N. Room for as many rows
        as a pass can touch, for a GPU is not waited for to count them: the live ones; those read at a step, which the next one writes, and
        V more.
        """
        sizes, like = self.sizes, self.tape["carry"]
        steps, batch, writers, reads = sizes["steps"], sizes["batch"], sizes["writers"], sizes["heads"] * sizes["reads"]
        sizes["table_size"] = 1 << (2 * (steps + 1) * self.accesses - 1).bit_length()
        touched = reads + steps * (writers + reads * (2 if sizes.get("links") else 1))
        sizes["line_stride"] = min(sizes["slots"], sizes["live"] + steps * writers, touched)
        return {
            "lines": self._ints(steps + 1, batch, self.accesses),
            "line_keys": self._ints(batch, 2, sizes["table_size"]),
            "line_count": self._ints(batch),
            "row_gradient": like.new_empty(batch, sizes["line_stride"], sizes["width"]),
        }

    def _search(self, like: Tensor) -> dict[str, Tensor]:
        """Where blocks that share the search of an element's rows leave what they found."""
        sizes = self.sizes
        rows = sizes["slots"] if sizes["scan_all"] else sizes["live"] + sizes["steps"] * sizes["writers"]
        sizes["parts"] = parts = 1 if sizes.get("tables") else search_parts(min(rows, sizes["slots"]), sizes["batch"], self.device)
        if parts == 1:
            return {}
        shape = (sizes["batch"], parts, sizes["heads"], sizes["reads"])
        scratch = like.new_empty(sizes["batch"], parts, self.part_scratch)
        return {"part_scores": like.new_empty(shape), "part_rows": self._ints(*shape), "part_scratch": scratch}

    def _allocate(self, like: Tensor, interface: int) -> dict[str, Tensor]:
        sizes = self.sizes
        steps, batch, hidden, width = sizes["steps"], sizes["batch"], sizes["hidden"], sizes["width"]
        heads, reads, writers = sizes["heads"], sizes["reads"], sizes["writers"]
        places = steps if self.taped else 2  # without a tape two places serve in turn
        states = places + 1 if self.taped else 2
        entries = writers * (1 + self.support)
        tape = {
            "carry": like.new_empty(steps + 1, batch, hidden + heads * width),
            "cell": like.new_empty(states, batch, hidden),
            "gates": like.new_empty(places, batch, 4 * hidden),
            "interface": like.new_empty(places, batch, interface),
            "read_index": self._ints(states, batch, heads, reads),
            "read_weights": like.new_empty(states, batch, heads, reads),
            "similarity": like.new_empty(places, batch, heads, reads),
            "written": self._ints(places, batch, writers, 1 + self.support),
        }
        if links := sizes.get("links"):
            tape |= {
                "precedence_rows": self._ints(states, batch, links),
                "precedence": like.new_empty(states, batch, links),
                "linked_rows": self._ints(places, batch, links),
                "content_index": self._ints(places, batch, heads, reads),
                "content_weights": like.new_empty(places, batch, heads, reads),
            }
        if not self.taped:
            return tape
        tape |= {
            "old_rows": self.memory["memory"].new_empty(steps, batch, entries, width),
            "old_norms": like.new_empty(steps, batch, entries),
            "old_last": self._ints(steps, batch, writers * (self.support + 2) + heads * reads),
        }
        if links:
            tape |= {
                "decayed_places": self._ints(steps, batch, links * links),
                "decayed_values": like.new_empty(steps, batch, links * links),
                "old_columns": self._ints(steps, batch, 2 * links, links),
                "old_values": like.new_empty(steps, batch, 2 * links, links),
                "mode_parts": like.new_empty(steps, batch, heads, reads, 2),
            }
        if tables := sizes.get("tables"):
            tape |= {
                "log_places": self._ints(steps, batch, entries, tables, 2),
                "log_entries": self._ints(steps, batch, entries, tables, 2, dtype=torch.int64),
                "log_codes": self._ints(steps, batch, entries, tables),
            }
        return tape

    def _ints(self, *shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)

    def _matrices(self) -> dict[str, Tensor]:
        return {name: getattr(self.weights, name) for name in ("weight_ih", "weight_hh", "interface_weight")}

    def _buffers(self, like: Tensor, **more: Tensor) -> dict[str, Tensor]:
        return {**self.memory, **self.tape, **more, "scratch": like.new_empty(self.sizes["batch"], self.sizes["scratch_stride"])}


ROWS_PER_PART = 4096  # fewer are searched faster by one block than by a launch of their own


def search_parts(rows: int, batch: int, device: torch.device) -> int:
    """Blocks among which to divide the search of `rows` rows of each of `batch` elements: two a multiprocessor; 1 on the CPU."""
    if device.type != "cuda":
        return 1
    blocks = 2 * torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(rows // ROWS_PER_PART, blocks // batch))


class _SamSequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current, start, x, carry, cell, read_weights, *weights):  # type: ignore[no-untyped-def]
        ctx.current, sequence = current, current.sequence
        carries = sequence.run(x, Weights(*weights), {**start, "carry": carry, "cell": cell, "read_weights": read_weights})
        last = sequence.end.pop("cell"), sequence.end.pop("read_weights")  # kept, they would lead back to this node: a cycle nobody frees
        return carries[1:], carries[-1].clone(), *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads):  # type: ignore[no-untyped-def]
        ctx.current.require_pending()
        x, *weights, carry, cell, read_weights = ctx.current.sequence.backward(*grads, needs_x=ctx.needs_input_grad[2])
        ctx.current.finish()
        return None, None, x, carry, cell, read_weights, *weights


def sam_sequence(
    current: Any, start: Mapping[str, Tensor], x: Tensor, carry: Tensor, cell: Tensor, read_weights: Tensor, weights: Weights
) -> tuple[Tensor, ...]:
    """The recurrence as one differentiable call: x [T, B, X]; carry [B, C], cell [B, H], read weights [B, R, K] of the step before ->
    features (the carry of each step) [T, B, C], and the last carry, cell and read weights.

    `current` holds the `SequencePass` as `.sequence`, is asked by `require_pending()` whether its backward is due and told by
    `finish()` that the memory is back at its start. `start`: the other states of the step before, which get no gradient.
    """
    return _SamSequence.apply(current, start, x, carry, cell, read_weights, *weights)
