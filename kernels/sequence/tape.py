"""The plan of all passes of the same sizes: the shapes of their tensors, and which buffers are allocated together in one."""

import functools
import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mann_bench.kernels.native.arguments import in_order
from mann_bench.kernels.native.call import scratch
from mann_bench.kernels.native.layout import Build, Layout, Shape, TensorLayout, of_block, of_buffer
from mann_bench.kernels.sequence.shapes import (
    Sizes,
    call_shapes,
    line_shapes,
    memory_shapes,
    panel_blocks,
    search_shapes,
    state_shapes,
    tape_shapes,
    weight_shapes,
)


@dataclass(frozen=True, eq=False)
class Plan:
    """Passes of the same sizes.

    Attributes:
        sizes: in the order of `arguments.SIZES`.
        shapes: of every tensor of a call but the blocks, by the name of its buffer.
        blocks: tensors that hold several buffers. `tape`: what is saved for backward, apart from the carry, and scratch. `lines`: of the
            memory gradient, of a short pass also what its gradients of the weights are made of. `grads`: gradients of carry, cell and
            read weights, from step to step. `panels`, `panels_back`: the matrices of a step in panels.
        size: by name, all sizes that do not change from call to call.
        short: whether the native call also computes what lies around the recurrence (`recurrence.is_short`).
        touched: rows of an element that a pass can touch, of a sparse model.
        accesses: how often a pass accesses a row of an element, of a sparse model.
    """

    build: Build
    size: Mapping[str, int]
    sizes: "array[int]"
    shapes: Mapping[str, Shape]
    blocks: Mapping[str, TensorLayout]
    short: bool
    touched: int = 0
    accesses: int = 0


@functools.lru_cache
def plan(which: Build, names: tuple[str, ...], sizes: tuple[int, ...], device: torch.device, short: bool) -> Plan:
    """Plan passes of these sizes.

    Args:
        names: of the sizes that do not change from call to call (`SequencePass`).
        short: see `Plan.short`.
    """
    size = dict(zip(names, sizes, strict=True))
    not_for_scratch = ("steps", "batch", "taped")  # the size of the scratch does not depend on them
    element, part = scratch(which, tuple((name, value) for name, value in size.items() if name not in not_for_scratch), device)
    tape, lines = tape_shapes(size), line_shapes(size)
    shapes = {**call_shapes(size), **search_shapes(size, part)}
    shapes["carry"] = carry = tape.pop("carry")
    tape["scratch"] = (size["batch"], element)
    grads = {"grad_carry": carry[1:], "grad_cell": tape["cell"][1:], "grad_weights": tape["read_weights"][1:]}
    if short:
        lines |= short_lines(shapes)
        tape |= short_scratch(size, shapes)
    read = size["heads"] * size["reads"]
    return Plan(
        which,
        size,
        array("q", in_order({**size, "table_size": lines["slot_hash"][2], "scratch_stride": element})),
        {**shapes, **ends(state_shapes(size)), **with_gradients(weight_shapes(size)), **memory_shapes(size)},
        {name: of_block(which, parts) for name, parts in (("tape", tape), ("lines", lines), ("grads", grads))} | panel_blocks(which, size),
        short,
        accesses=math.prod(lines["touched_slot"][::2]),
        touched=read + size["steps"] * (size["write_heads"] + read * (2 if size.get("links") else 1)),
    )


def short_scratch(size: Sizes, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """What a short pass needs besides; with a tape, which stays until backward, it is apart."""
    return {} if size["taped"] else {"input": shapes["input"]}


def short_lines(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """What the gradients of the weights of a short pass are made of."""
    return {name: shapes[name] for name in ("grad_gates", "grad_interface", "cell_inputs", "grad_features")}


def ends(states: Mapping[str, Shape]) -> dict[str, Shape]:
    """Name the states before and after a pass."""
    return {f"{end}_{name}": shape for name, shape in states.items() for end in ("first", "last")}


def with_gradients(tensors: Mapping[str, Shape]) -> dict[str, Shape]:
    """Name tensors and their gradients."""
    return {f"{kind}{name}": shape for name, shape in tensors.items() for kind in ("", "grad_")}


@functools.lru_cache(maxsize=512)
def layout(of: Plan, names: tuple[str, ...]) -> Layout:
    """Lay out a call of a pass with tensors of these names: buffers, or blocks of the plan."""
    return Layout(of.build, [of.blocks.get(name) or of_buffer(of.build, name, of.shapes[name]) for name in names])
