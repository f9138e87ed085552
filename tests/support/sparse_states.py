"""What a state of SAM, SDNC or SDM holds, for comparisons of native with torch kernels and of a memory with itself."""

from typing import Any

from torch import Tensor


def states(state: Any) -> dict[str, Tensor]:
    """Everything a state holds, by name."""
    controller, memory = state.controller, state.memory
    if not hasattr(memory, "weights"):
        return {"hidden": controller.hidden, "cell": controller.cell, "reads": controller.reads, "memory": memory.rows.memory}
    held = {"hidden": controller.hidden, "cell": controller.cell, "reads": controller.reads, "weights": memory.weights}
    held |= {"memory": memory.rows.memory, "norms": memory.rows.norms}
    if hasattr(memory, "links"):
        held |= {"precedence": memory.precedence_weights, "after": memory.links.after_values, "before": memory.links.before_values}
    return held


def choices(state: Any) -> list[Any]:
    """The discrete part of a state: what was read, the order of use, the links."""
    memory = state.memory
    if not hasattr(memory, "weights"):
        return []
    rows = [memory.index.tolist(), memory.rows.ring.order().tolist(), memory.rows.num_candidates]
    return rows + ([memory.precedence_rows.tolist(), memory.links.after_columns.tolist()] if hasattr(memory, "links") else [])


def in_place(state: Any) -> dict[str, Tensor]:
    """Copies of all that a pass changes in place and a rollback restores to the bit."""
    rows = state.memory.rows
    if not hasattr(rows, "norms"):
        return {"memory": rows.memory.clone()}
    held = {"memory": rows.memory, "norms": rows.norms, "ring.last": rows.ring.last, "ring.order": rows.ring.order()}
    held |= {f"index {number}": tensor for number, tensor in enumerate(rows.index.tensors())}
    if hasattr(state.memory, "links"):
        held |= {f"links {number}": tensor for number, tensor in enumerate(state.memory.links.tensors())}
    return {name: tensor.detach().clone() for name, tensor in held.items()}
