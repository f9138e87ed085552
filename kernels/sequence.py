"""`sam_sequence`: all T steps of SAM or SDNC in one native call, the LSTM controller inside, forward and backward.

`SequencePass` owns the buffers of one pass over one memory, its tape, and knows how to run it, take it back and make it again.
Equations: Rae et al. 2016, section 3 and supplements A and D; kernel text: `csrc/sequence.h`. C = H + R W is the carry: h_t and all reads.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from mann_bench.kernels.call import Build, call, scratch

ROUND = 16  # columns of a weight matrix are padded to a multiple of this, so that the kernel reads whole tiles


class SequencePass:
    """One pass: sizes by the names of `csrc/arguments.h`, the buffers of the memory it changes in place, and its tape if `taped`."""

    def __init__(self, which: Build, sizes: Mapping[str, int], memory: Mapping[str, Tensor], *, taped: bool) -> None:
        self.which, self.memory, self.taped = which, dict(memory), taped
        self.sizes = {**sizes, "taped": int(taped)}
        self.tape: dict[str, Tensor] = {}
        self.weights: dict[str, Tensor] = {}
        self.end: dict[str, Tensor] = {}  # states after the last step
        self.sizes["scratch_stride"] = scratch(which, self.sizes)

    def run(self, inputs: Tensor, matrices: tuple[Tensor, Tensor, Tensor], start: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Forward: inputs [T, B, 4H], matrices (recurrent [4H, C], interface [P, H], its bias [P]), start (carry, cell, read_index, read_weights,
        and for SDNC precedence_rows, precedence) -> carry [T + 1, B, C], last cell [B, H], last read weights [B, R, K].
        """
        recurrent, interface, bias = matrices
        self.weights = {
            "recurrent": _padded(recurrent),
            "recurrent_t": _padded(recurrent.t()),
            "interface_weight": _padded(interface),
            "interface_t": _padded(interface.t()),
            "interface_bias": bias.contiguous(),
        }
        for name, stride in {"recurrent": "recurrent", "recurrent_t": "recurrent_t", "interface": "interface_weight", "interface_t": "interface_t"}.items():
            self.sizes[f"{name}_stride"] = self.weights[stride].shape[1]
        self.tape = self._allocate(inputs, bias.numel())
        for name, value in start.items():
            self.tape[name][0] = value
        call("mb_forward", self.which, {"input": inputs.contiguous(), **self.weights}, {**self.memory, **self.tape, **self._scratch(inputs)}, self.sizes)
        last = self.sizes["steps"] if self.taped else self.sizes["steps"] % 2
        self.end = {name: self.tape[name][last].clone() for name in start if name != "carry"}
        carry = self.tape["carry"]
        if not self.taped:
            self.tape, self.weights = {}, {}
        return carry, self.end["cell"], self.end["read_weights"]

    def backward(self, grad_carry: Tensor, grad_cell: Tensor, grad_weights: Tensor) -> tuple[Tensor, ...]:
        """Gradients of (inputs, recurrent, interface, bias, carry, cell, read weights); the memory is rolled back to its start."""
        tape, steps, batch = self.tape, self.sizes["steps"], self.sizes["batch"]
        hidden, like = self.sizes["hidden"], tape["carry"]
        lines = self._number_rows()
        grads = {
            "grad_carry": grad_carry.contiguous(),
            "grad_cell": grad_cell.clone(memory_format=torch.contiguous_format),
            "grad_weights": grad_weights.clone(memory_format=torch.contiguous_format),
            "grad_start": like.new_empty(batch, like.shape[2]),
            "grad_gates": torch.empty_like(tape["gates"]),
            "grad_interface": torch.empty_like(tape["interface"]),
        }
        call("mb_backward", self.which, self.weights, {**self.memory, **tape, **lines, **grads, **self._scratch(like)}, self.sizes)
        gates, interface = grads["grad_gates"], grads["grad_interface"].flatten(0, 1)
        carry = tape["carry"].flatten(0, 1)
        grad_recurrent = gates.flatten(0, 1).t() @ carry[: steps * batch]
        grad_interface = interface.t() @ carry[batch:, :hidden]
        return gates, grad_recurrent, grad_interface, interface.sum(0), grads["grad_start"] + grad_carry[0], grads["grad_cell"], grads["grad_weights"]

    def undo(self) -> None:
        """Take the whole pass back, bit for bit; the ring's head is the caller's."""
        call("mb_undo", self.which, {}, {**self.memory, **self.tape, **self._scratch(self.tape["carry"])}, self.sizes)

    def redo(self) -> None:
        """Make an undone pass again; the ring is the caller's."""
        call("mb_redo", self.which, {}, {**self.memory, **self.tape, **self._scratch(self.tape["carry"])}, self.sizes)

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

    def _number_rows(self) -> dict[str, Tensor]:
        """A line of the memory gradient for each touched row: 4 bytes an access, W numbers a row, nothing of size N."""
        sizes, like = self.sizes, self.tape["carry"]
        steps, batch = sizes["steps"], sizes["batch"]
        sizes["table_size"] = 1 << (2 * (steps + 1) * self.accesses - 1).bit_length()
        numbers = {
            "lines": self._ints(steps + 1, batch, self.accesses),
            "line_keys": self._ints(batch, 2, sizes["table_size"]).fill_(-1),
            "line_count": self._ints(batch).zero_(),
        }
        call("mb_number_rows", self.which, {}, {**self.memory, **self.tape, **numbers, **self._scratch(like)}, sizes)
        sizes["line_stride"] = max(1, int(numbers["line_count"].max()))
        return {"lines": numbers["lines"], "row_gradient": like.new_zeros(batch, sizes["line_stride"], sizes["width"])}

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
        return torch.empty(shape, dtype=dtype, device=self.memory["memory"].device)

    def _scratch(self, like: Tensor) -> dict[str, Tensor]:
        return {"scratch": like.new_empty(self.sizes["batch"], self.sizes["scratch_stride"])}


class _SamSequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs, recurrent, interface, bias, carry, cell, weights, current, start):  # type: ignore[no-untyped-def]
        ctx.current = current
        return current.sequence.run(inputs, (recurrent, interface, bias), {**start, "carry": carry, "cell": cell, "read_weights": weights})

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_carry, grad_cell, grad_weights):  # type: ignore[no-untyped-def]
        ctx.current.require_pending()
        grads = ctx.current.sequence.backward(grad_carry, grad_cell, grad_weights)
        ctx.current.finish()
        return *grads, None, None


def sam_sequence(
    inputs: Tensor, matrices: tuple[Tensor, Tensor, Tensor], carry: Tensor, cell: Tensor, weights: Tensor, current: Any, start: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The recurrence as one differentiable call: inputs [T, B, 4H] (W_x x_t and biases), matrices (recurrent [4H, C], interface [P, H], bias [P]),
    carry [B, C], cell [B, H], weights [B, R, K] of the step before -> carry [T + 1, B, C], last cell, last read weights.

    `current` holds the `SequencePass` as `.sequence`, is asked by `require_pending()` whether its backward is due and told by `finish()` that
    the memory is back at its start. `start`: the other states of the step before, which get no gradient.
    """
    return _SamSequence.apply(inputs, *matrices, carry, cell, weights, current, start)


def _padded(matrix: Tensor) -> Tensor:
    return pad(matrix, (0, -matrix.shape[1] % ROUND)).contiguous()
