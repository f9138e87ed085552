"""Calls on banks of slots: their sizes, the shapes of their tensors, and which buffers are allocated together (`csrc/slots/`).

Rows of a bank [B, R, N, W] are numbered through [B R N]. S: scores of all factors. P: of an interface vector. H: 0 without an LSTM.
"""

import functools
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mann_bench.kernels.native.arguments import in_order
from mann_bench.kernels.native.layout import Build, Shape, of_block
from mann_bench.kernels.ops.product_keys import candidates_of, scratch_numbers
from mann_bench.kernels.sequence.shapes import panel_blocks
from mann_bench.kernels.sequence.tape import Plan


class SlotSearch(NamedTuple):
    """How slots are found, and how their scores become weights."""

    sides: tuple[int, ...]  # numbers of each factor
    writes: int  # Kw
    reads: int  # Kr
    weights: str  # "softmax" of the scaled scores of the slots found, or "l2": their scores divided by their Euclidean norm
    scale: float  # of the scores before the softmax


@dataclass(frozen=True, eq=False, kw_only=True)
class SlotPlan(Plan):
    """Calls of the same sizes.

    Attributes:
        blocks: tensors that hold several buffers. `tape`: what is saved for backward. `grads`: what backward needs besides, with the table
            of the rows touched of a pass on its own. `table`: that of a chain of passes. With an LSTM, `panels` and
            `panels_back` of `tape.Plan`.
        constants: inputs that do not change from call to call, by name.
        touched: slots of a bank that a call can write or read.
    """

    constants: Mapping[str, Tensor]


@functools.lru_cache(maxsize=512)
def slot_plan(which: Build, sizes: tuple[tuple[str, int], ...], search: SlotSearch, device: torch.device) -> SlotPlan:
    """Plan calls of these sizes: steps, batch, heads, slots, width, interface_size, input_size, hidden, weighted, taped, rounded_bytes."""
    count, factors = max(search.writes, search.reads), len(search.sides)
    sides, candidates = candidates_of(search.sides, count, device)
    size = {**dict(sizes), "writes": search.writes, "reads": search.reads, "factors": factors, "candidates": candidates}
    size["unit_weights"] = int(search.weights == "l2")
    real = getattr(torch, which.real)
    width, touched = size["width"], min(size["slots"], size["steps"] * (search.writes + search.reads))
    step = 3 * width + search.writes * (1 + (width if size["rounded_bytes"] else 0))
    size["scratch_stride"] = max(step, scratch_numbers(factors, count, candidates, real.itemsize))
    size["table_size"] = table_size(touched)
    blocks = {"tape": of_block(which, tape_shapes(size)), "grads": of_block(which, gradient_shapes(size))}
    if size["hidden"]:
        blocks |= panel_blocks(which, size, interface_back=False)  # there go only the rows of what was accessed
    return SlotPlan(
        which,
        size,
        array("q", in_order(size)),
        call_shapes(size, search),
        blocks,
        short=False,
        touched=touched,
        constants={"sides": sides, "score_scale": torch.full((1,), search.scale, dtype=real, device=device)},
    )


def table_size(rows: int) -> int:
    """Places of a hash table for so many rows: a power of two, at least twice as many."""
    return 1 << (2 * rows - 1).bit_length()


def tape_shapes(size: Mapping[str, int]) -> dict[str, Shape]:
    """Name the buffers saved for backward; without a tape, those of the controller are of two steps."""
    steps, batch, heads, writes, width, hidden = (size[name] for name in ("steps", "batch", "heads", "writes", "width", "hidden"))
    axes = steps, batch, heads
    tape: dict[str, Shape] = {
        "delta_rows": (*axes, writes),
        "delta_reads": (*axes, size["reads"]),
        "delta_weights": (*axes, writes),
        "delta_read_weights": (*axes, size["reads"]),
        "delta_values": (*axes, width),
        "delta_decay": axes,
        "delta_strength": axes,
    }
    if size["unit_weights"]:
        tape["score_norms"] = (*axes, 2)
    if hidden:
        places = steps if size["taped"] else 2
        tape |= {"cell": (places + 1, batch, hidden), "gates": (places, batch, 4 * hidden)}
    if rounded := size["rounded_bytes"]:
        tape["rounded_rows"] = (*axes, writes, width * rounded)
        tape |= {"rounded_largest": (*axes, writes)} if rounded == 1 else {}
    elif size["taped"]:
        tape["delta_old_rows"] = (*axes, writes, width)
    return tape


def gradient_shapes(size: Mapping[str, int]) -> dict[str, Shape]:
    """Name the buffers that backward fills for itself."""
    steps, batch, heads, writes, reads = (size[name] for name in ("steps", "batch", "heads", "writes", "reads"))
    axes = steps, batch, heads
    return {
        "grad_delta_weights": (*axes, writes),
        "grad_delta_read_weights": (*axes, reads),
        "grad_delta_values": (*axes, size["width"]),
        "grad_delta_decay": axes,
        "grad_delta_strength": axes,
        "grad_gate_columns": (*axes, 2),
        "touched_slot": (*axes, writes + reads),
        "scratch": (batch, heads, size["scratch_stride"]),
        "slot_hash": (batch, heads, 2, size["table_size"]),
        "touched_count": (batch, heads),
    }


def call_shapes(size: Mapping[str, int], search: SlotSearch) -> dict[str, Shape]:
    """Name what a call is given or makes besides: inputs, weights, outputs and their gradients, the bank and its gradient."""
    steps, batch, heads, width, hidden = (size[name] for name in ("steps", "batch", "heads", "width", "hidden"))
    inputs, interface = size["input_size"], size["interface_size"]
    reads = heads * width
    shapes: dict[str, Shape] = {
        "memory": (batch, heads, size["slots"], width),
        "sides": (len(search.sides),),
        "score_scale": (1,),
        "x": (steps, batch, inputs),
        "input": (steps, batch, 4 * hidden),
        "delta_interface": (batch, interface) if hidden else (steps, batch, interface),
        "scratch": (batch, heads, size["scratch_stride"]) if hidden else (steps, batch, heads, size["scratch_stride"]),
        "delta_out": (steps, batch, heads, width),
        "carry": (steps + 1, batch, hidden + reads),
        "grad_delta_out": (steps, batch, heads, width),
        "grad_features": (steps, batch, hidden + reads),
        "grad_carry": (batch, hidden + reads),
        "grad_cell": (batch, hidden),
        "grad_gates": (steps, batch, 4 * hidden),
        "cell_inputs": (steps, batch, inputs + reads),
        "grad_makers": (batch, hidden) if hidden else (steps, batch, inputs),
        "slot_hash": (batch, heads, 2, None),
        "touched_count": (batch, heads),
        "row_gradient": (batch, heads, None, width),
        "clocks": (batch, None),
        **dict.fromkeys(("lengths", "order"), (batch,)),
    }
    for end in ("first", "last"):
        shapes |= {f"{end}_hidden": (batch, hidden), f"{end}_cell": (batch, hidden), f"{end}_reads": (batch, heads, width)}
    weights: dict[str, Shape] = {
        "weight_ih": (4 * hidden, inputs + reads),
        "weight_hh": (4 * hidden, hidden),
        "interface_weight": (interface, hidden or inputs),
        "interface_bias": (interface,),
        "log_decay": (heads,),
        "step_bias": (heads,),
    }
    return shapes | weights | {f"grad_{name}": shape for name, shape in weights.items()}
