"""What a pass of given sizes needs, found out once for them: its buffers, each block of which is one allocation, and its scratch."""

import functools
from array import array
from collections.abc import Mapping
from typing import NamedTuple

import torch

from mann_bench.kernels.native.arguments import in_one_block
from mann_bench.kernels.native.call import Build, in_order, scratch

Shape = tuple[int, ...]


class Plan(NamedTuple):
    """Shapes of the buffers that torch works on too, and blocks of the others: a name as `arguments.pack` takes it, how many numbers."""

    which: str
    sizes: "array[int]"  # in the order of `arguments.SIZES`
    input: Shape
    carry: Shape
    gates: Shape
    interface: Shape
    cell_inputs: Shape
    y: Shape
    tape: tuple[str, int]  # all else that is kept, and scratch
    lines: tuple[str, int]  # of the memory gradient; of a short pass, also what its gradients of the weights are made of
    grads: tuple[str, int]  # of carry, cell and read weights, from step to step
    touched: int  # rows of an element that a pass can touch
    part_scratch: int


@functools.lru_cache
def plan(which: Build, sizes: tuple[tuple[str, int], ...], device: torch.device, short: bool) -> Plan:
    """Of passes of these sizes: all by name but where memory and ring stand at the start. `short`: see `sequence.is_short`."""
    size = dict(sizes)
    lengths = ("steps", "batch", "taped")  # scratch is alike for all
    element, part = scratch(which, tuple(one for one in sizes if one[0] not in lengths), device)
    tape, lines = tape_shapes(size), line_shapes(size)
    carry, gates, interface = tape.pop("carry"), tape["gates"], tape["interface"]
    along, of_input = (carry[0] - 1, carry[1]), (carry[0] - 1, *gates[1:])
    cell_inputs, y = (*along, size["input_size"] + size["heads"] * size["width"]), (*along, size["output_size"])
    if short:
        lines |= {"grad_interface": interface, "cell_inputs": cell_inputs, "grad_features": (*along, carry[2])}
    tape["scratch"] = (size["batch"], element)
    grads = {"grad_carry": carry[1:], "grad_cell": tape["cell"][1:], "grad_weights": tape["read_weights"][1:]}
    order = in_order({**size, "table_size": lines["slot_hash"][2], "scratch_stride": element})
    tape_block, line_block, grad_block = (in_one_block(shapes, which.numbers) for shapes in (tape, lines, grads))
    read = size["heads"] * size["reads"]
    touched = read + size["steps"] * (size["write_heads"] + read * (2 if size.get("links") else 1))
    return Plan(
        str(which), array("q", order), of_input, carry, gates, interface, cell_inputs, y, tape_block, line_block, grad_block, touched, part
    )


def support(size: Mapping[str, int]) -> int:
    """S: rows that a write head takes over from the step before."""
    return size["reads"] * (1 if size["write_heads"] == size["heads"] else size["heads"])


def tape_shapes(size: Mapping[str, int]) -> dict[str, Shape]:
    """What is kept of a pass."""
    steps, batch, hidden, width = size["steps"], size["batch"], size["hidden"], size["width"]
    heads, reads, writers, links = size["heads"], size["reads"], size["write_heads"], size.get("links", 0)
    places = steps if size["taped"] else 2  # without a tape two places serve in turn
    states = places + 1 if size["taped"] else 2
    interface = heads * (width + size["strength"] + size.get("modes", 0)) + writers * (width + 2)
    entries = writers * (1 + support(size))
    tape: dict[str, Shape] = {
        "carry": (steps + 1, batch, hidden + heads * width),
        "cell": (states, batch, hidden),
        "gates": (places, batch, 4 * hidden),
        "interface": (places, batch, interface),
        "read_index": (states, batch, heads, reads),
        "read_weights": (states, batch, heads, reads),
        "similarity": (places, batch, heads, reads),
        "written": (places, batch, writers, 1 + support(size)),
    }
    if links:
        tape |= {
            "precedence_rows": (states, batch, links),
            "precedence": (states, batch, links),
            "linked_rows": (places, batch, links),
            "content_index": (places, batch, heads, reads),
            "content_weights": (places, batch, heads, reads),
        }
    if not size["taped"]:
        return tape
    tape |= {
        "old_rows": (steps, batch, entries, width),
        "old_norms": (steps, batch, entries),
        "old_last": (steps, batch, writers * (support(size) + 2) + heads * reads),
    }
    if links:
        tape |= {
            "decayed_offsets": (steps, batch, links * links),
            "decayed_values": (steps, batch, links * links),
            "old_columns": (steps, batch, 2 * links, links),
            "old_values": (steps, batch, 2 * links, links),
            "mode_parts": (steps, batch, heads, reads, 2),
        }
    if tables := size.get("tables"):
        tape |= {
            "log_offsets": (steps, batch, entries, tables, 2),
            "log_entries": (steps, batch, entries, tables, 2),
            "log_codes": (steps, batch, entries, tables),
        }
    return tape


def line_shapes(size: Mapping[str, int]) -> dict[str, Shape]:
    """A line of the memory gradient for each touched row, found by hashing: 4 bytes an access, nothing of size N."""
    steps, batch = size["steps"], size["batch"]
    accesses = size["write_heads"] * (1 + support(size)) + size["heads"] * size["reads"] * (2 if size.get("links") else 1)
    table_size = 1 << (2 * (steps + 1) * accesses - 1).bit_length()
    return {"touched_slot": (steps + 1, batch, accesses), "slot_hash": (batch, 2, table_size), "touched_count": (batch,)}
