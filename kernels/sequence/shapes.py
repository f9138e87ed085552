"""Shapes of all tensors of a pass, by the names of `csrc/arguments.h` and from sizes by those names."""

from collections.abc import Mapping

import torch

from mann_bench.kernels.native.layout import Build, Shape, TensorLayout, of_block
from mann_bench.kernels.reference.byte_rows import BLOCK_ROWS

Sizes = Mapping[str, int]


def support(size: Sizes) -> int:
    """S: rows read in the step before that a write head adds to."""
    return size["reads"] * (1 if size["write_heads"] == size["heads"] else size["heads"])


def weight_shapes(size: Sizes) -> dict[str, Shape]:
    """Name the parameters of controller, interface and output layer, in the order of `autograd.Weights`."""
    hidden, inputs, interface = size["hidden"], size["input_size"], size["interface_size"]
    reads = size["heads"] * size["width"]
    return {
        "weight_ih": (4 * hidden, inputs + reads),
        "weight_hh": (4 * hidden, hidden),
        "bias_ih": (4 * hidden,),
        "bias_hh": (4 * hidden,),
        "interface_weight": (interface, hidden),
        "interface_bias": (interface,),
        "output_weight": (size["output_size"], hidden + reads),
        "output_bias": (size["output_size"],),
    }


def state_shapes(size: Sizes) -> dict[str, Shape]:
    """Name the states that go from step to step."""
    batch, hidden, heads, reads, links = size["batch"], size["hidden"], size["heads"], size["reads"], size.get("links", 0)
    return {
        "hidden": (batch, hidden),
        "cell": (batch, hidden),
        "reads": (batch, heads, size["width"]),
        "read_weights": (batch, heads, reads),
        "read_index": (batch, heads, reads),
        "precedence_rows": (batch, links),
        "precedence": (batch, links),
    }


def memory_shapes(size: Sizes) -> dict[str, Shape]:
    """Name the buffers that a pass changes in place: rows, ring, links, hash tables."""
    batch, slots, width, links = size["batch"], size["slots"], size["width"], size.get("links", 0)
    tables, bits, capacity, probes = (size.get(name, 0) for name in ("tables", "bits", "capacity", "probes"))
    return {
        "memory": (batch, slots, width),
        "norms": (batch, slots),
        "byte_rows": (batch, -(-slots // BLOCK_ROWS), -(-width // 4) + 1, BLOCK_ROWS),
        "ring_last": (batch, slots),
        "ring_queue": (batch, None),
        "ring_start": (batch, slots),
        "first_ring_head": (batch,),
        "ring_head": (batch,),
        **dict.fromkeys(("after_columns", "after_values", "before_columns", "before_values"), (batch, slots, links)),
        "planes": (width, tables * bits + 32),
        "probe_masks": (probes,),
        "buckets": (batch, tables, 1 << bits, capacity),
        "codes": (batch, slots, tables),
    }


def call_shapes(size: Sizes) -> dict[str, Shape]:
    """Name what a call is given or makes besides: inputs, outputs and their gradients, clocks."""
    steps, batch, hidden, heads, interface = (size[name] for name in ("steps", "batch", "hidden", "heads", "interface_size"))
    carry = hidden + heads * size["width"]
    return {
        "x": (steps, batch, size["input_size"]),
        "input": (steps, batch, 4 * hidden),
        "y": (steps, batch, size["output_size"]),
        "grad_y": (steps, batch, size["output_size"]),
        "grad_features": (steps, batch, carry),
        "grad_gates": (steps, batch, 4 * hidden),
        "grad_interface": (steps, batch, interface),
        "cell_inputs": (steps, batch, size["input_size"] + heads * size["width"]),
        "clocks": (batch, None),
        **dict.fromkeys(("lengths", "order", "counts"), (batch,)),
    }


PANEL_BYTES = 64  # of a row of a panel: csrc/block/panels.h


def panel_blocks(which: Build, size: Sizes, *, interface_back: bool = True) -> dict[str, TensorLayout]:
    """Lay out the matrices of a step in panels, of forward and of backward.

    Args:
        interface_back: whether backward multiplies with the whole interface matrix.
    """
    hidden, interface, columns = size["hidden"], size["interface_size"], PANEL_BYTES // getattr(torch, which.real).itemsize
    carry = hidden + size["heads"] * size["width"]

    def panels(rows: int, of: int) -> Shape:
        return (-(-of // columns), rows, columns)

    forward = {"carry_panels": panels(carry, 4 * hidden), "interface_panels": panels(hidden, interface)}
    back = {"carry_back_panels": panels(4 * hidden, carry)}
    if interface_back:
        back["interface_back_panels"] = panels(interface, hidden)
    return {"panels": of_block(which, forward), "panels_back": of_block(which, back)}


def search_shapes(size: Sizes, part_scratch: int) -> dict[str, Shape]:
    """Name the results of blocks that share a search, and the gradients of rows, in a chain of passes with their hash table."""
    batch, found = size["batch"], (size["heads"], size["reads"])
    return {
        "row_gradient": (batch, None, size["width"]),
        "slot_hash": (batch, 2, None),
        "touched_count": (batch,),
        "part_scores": (batch, None, *found),
        "part_rows": (batch, None, *found),
        "part_scratch": (batch, None, part_scratch),
    }


def controller_tape_shapes(size: Sizes) -> dict[str, Shape]:
    """Name the buffers of the controller saved for backward; without a tape, those of two steps, which alternate."""
    steps, batch, hidden = size["steps"], size["batch"], size["hidden"]
    places = steps if size["taped"] else 2
    return {
        "carry": (steps + 1, batch, hidden + size["heads"] * size["width"]),
        "cell": (steps + 1 if size["taped"] else 2, batch, hidden),
        "gates": (places, batch, 4 * hidden),
        "interface": (places, batch, size["interface_size"]),
    }


def tape_shapes(size: Sizes) -> dict[str, Shape]:
    """Name the buffers saved for backward; without a tape, those of two steps."""
    steps, batch, width = size["steps"], size["batch"], size["width"]
    heads, reads, writers, links = size["heads"], size["reads"], size["write_heads"], size.get("links", 0)
    places = steps if size["taped"] else 2  # without a tape two places alternate
    states = places + 1 if size["taped"] else 2
    entries = writers * (1 + support(size))
    tape: dict[str, Shape] = {
        **controller_tape_shapes(size),
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
    tape["old_last"] = (steps, batch, writers * (support(size) + 2) + heads * reads)
    if rounded := size.get("rounded_bytes"):
        tape["rounded_rows"] = (steps, batch, entries, width * rounded)
        tape |= {"rounded_largest": (steps, batch, entries)} if rounded == 1 else {}
    else:
        tape |= {"old_rows": (steps, batch, entries, width), "old_norms": (steps, batch, entries)}
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
            "log_entries": (steps, batch, entries, tables),
            "log_sketches": (steps, batch, entries, tables),
        }
    return tape


def line_shapes(size: Sizes) -> dict[str, Shape]:
    """Name the buffers of the hash table from touched rows to slots of the memory gradient: 4 bytes an access, nothing of size N."""
    steps, batch = size["steps"], size["batch"]
    accesses = size["write_heads"] * (1 + support(size)) + size["heads"] * size["reads"] * (2 if size.get("links") else 1)
    table_size = 1 << (2 * (steps + 1) * accesses - 1).bit_length()
    return {"touched_slot": (steps + 1, batch, accesses), "slot_hash": (batch, 2, table_size), "touched_count": (batch,)}
