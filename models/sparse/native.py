"""SAM and SDNC run by the native sequence kernel: the same states, memory and rollback as the step-by-step reference."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mann_bench.kernels.index import Index
from mann_bench.kernels.native import call
from mann_bench.kernels.native.layout import Build, Layout, of_buffer
from mann_bench.kernels.reference.snapshot import ROUNDED_BYTES
from mann_bench.kernels.sequence import cluster
from mann_bench.kernels.sequence.autograd import DifferentiableStates, MemoryGradient, SequencePass, sam_sequence
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.kernels.sequence.shapes import memory_shapes, state_shapes
from mann_bench.models import layers
from mann_bench.models.layers import Layered, choose
from mann_bench.models.sparse.memory import SparseMemory
from mann_bench.models.sparse.passes import Pass
from mann_bench.models.sparse.state import SAMMemory
from mann_bench.models.state import ControllerState, MANNState

ANY_NEGATIVE = -(2**63)  # a row number that is none


def why_not(weight: Tensor, word_size: int, index: type[Index] | None = None) -> str | None:
    """Return why a model (or, without an index, an op) with this weight cannot run on native kernels here, or None."""
    if index is not None and not index.in_sequence:
        return f"{index.__name__} is a library's, used step by step"
    dtype = weight.dtype
    return call.why_not(weight.device, dtype, dtype, word_size)


def why_not_model(model: "NativeModel") -> str | None:
    """Return why a model does not run on native kernels here, or None."""
    return layers.why_not(model) or why_not(layers.output_weight(model), model.word_size, model.index_kind)


def choose_for(model: "NativeModel", *, fit: bool = True) -> str:
    """Resolve what runs a model; ValueError if "native" was asked for and would not compute what the model does. `fit`: see `layers`."""
    if model.kernels == "torch" or layers.wrong_for(model.kernels, model, fit=fit):
        return "torch"
    return choose(model.kernels, why_not(layers.output_weight(model), model.word_size, model.index_kind))


@dataclass
class ModelInputs:
    """What a kind of model adds to the arguments of the kernel, by the names of `csrc/arguments.h`."""

    sizes: dict[str, int]
    buffers: dict[str, Tensor]  # changed in place and rolled back
    constant_states: dict[str, Tensor]  # states of the step before that receive no gradient


class NativeModel(Layered, Protocol):
    """What a native pass needs of a model: SAM and what is built on it."""

    kernels: str
    index_kind: type[Index]
    slots: int
    reads: int
    write_heads: int
    strength: bool
    erase: str
    storage: torch.dtype | None
    snapshot: str

    def check_state(self, state: object, x: Tensor) -> None:
        """ValueError unless the state is one of this model's."""

    def native_inputs(self, memory: SAMMemory) -> ModelInputs:
        """Name the sizes, buffers and states that this kind of model adds."""

    def memory_after(self, memory: SAMMemory, constant_states: Mapping[str, Tensor], weights: Tensor, position: int) -> SAMMemory:
        """Make the memory after the pass."""


class NativePass(Pass[SparseMemory, MemoryGradient]):
    """A pass made by one native call, whose tape is in `sequence`."""

    logs_ring = False
    sequence: SequencePass

    def cut(self, gradient: MemoryGradient) -> None:
        gradient.buffers["row_gradient"][self.reset] = 0

    def memory_gradient(self) -> MemoryGradient | None:
        """What backward begins with: the gradient received from the pass after this one, or for the last pass of a chain zeros."""
        received = self.gradient_received()
        if received is None and self.before is not None:
            return MemoryGradient.zeros([each.sequence for each in self.chain()])
        return received

    def rollback(self) -> None:
        self.sequence.undo()
        self.finish_rollback()

    def replay(self) -> None:
        self.sequence.redo()
        super().replay()


def run(model: NativeModel, x: Tensor, state: MANNState[SAMMemory], lengths: Lengths | None = None) -> tuple[Tensor, MANNState[SAMMemory]]:
    """Run `SAM.run` as one native call: x [T, B, X] -> y [T, B, Y], state."""
    controller, memory = state.controller, state.memory
    rows, ring, (steps, batch, _) = memory.rows, memory.rows.ring, x.shape
    which = build_for(x.dtype, rows.memory.dtype)
    parts = [controller.hidden, controller.cell, controller.reads, memory.weights, memory.index, rows.memory]
    if not layout_of_state(which, batch, model.hidden, model.heads, model.reads, model.slots, model.word_size).fit(parts):
        model.check_state(state, x)  # before anything changes; of row numbers too
    elif not rows_exist(memory, which, model.slots):
        raise ValueError("state.memory: expected rows that the memory has")  # `check_state` says which it has not
    current = NativePass(rows, memory.position, recorded=torch.is_grad_enabled(), attached=memory.attached)
    appends = steps * ring_appends(model)
    ring.reserve(appends)
    if lengths is not None:  # an element that has ended appends nothing: its places are left empty
        ring.queue[:, ring.tail - ring.rows : ring.tail + appends - ring.rows] = -1
    head = torch.empty_like(ring.head)  # of the ring after the pass; the old one stays with marks, and with the ring if the call fails
    added = model.native_inputs(memory)
    sizes, buffers = sizes_and_buffers(model, rows, added, head, steps, batch, taped=current.recorded)
    current.sequence = SequencePass(which, sizes, memory_sizes(rows), buffers, lengths, counts_of(rows))
    before = DifferentiableStates(controller.hidden, controller.cell, controller.reads, memory.weights)
    y, after, constant_states = sam_sequence(current.sequence, current, x, before, added.constant_states, layers.weights(model))
    ring.head = head
    ring.tail += appends
    rows.count_writes(steps, model.write_heads, None if lengths is None else lengths.each)
    memory = model.memory_after(memory, constant_states, after.read_weights, current.close())
    return y, MANNState(ControllerState(after.hidden, after.cell, after.reads), memory)


def sizes_and_buffers(
    model: NativeModel, rows: SparseMemory, added: ModelInputs, head: Tensor, steps: int, batch: int, *, taped: bool
) -> tuple[dict[str, int], dict[str, Tensor]]:
    """Name the sizes of a pass that do not change from call to call, and the buffers of the memory; `head` [B]: see `memory_buffers`."""
    index_sizes, index_buffers = rows.index.for_sequence()
    sizes = {**model_sizes(model, steps, batch, taped=taped), **added.sizes, **index_sizes}
    return sizes, {**added.buffers, **memory_buffers(rows, head), **index_buffers}


def counts_of(rows: SparseMemory) -> Tensor | None:
    """The candidates of each element, int64 [B], where they differ."""
    return None if rows.counts is None else torch.tensor(rows.counts, device=rows.memory.device)


@functools.lru_cache
def layout_of_state(which: Build, batch: int, hidden: int, heads: int, reads: int, slots: int, width: int) -> Layout:
    """Lay out the parts of a state that each model has; one on another device, or with gaps, is left to `check_state`."""
    size = {"batch": batch, "hidden": hidden, "heads": heads, "reads": reads, "slots": slots, "width": width}
    states = state_shapes(size)
    names = ("hidden", "cell", "reads", "read_weights", "read_index")
    parts = [of_buffer(which, f"first_{name}", states[name]) for name in names]
    return Layout(which, [*parts, of_buffer(which, "memory", memory_shapes(size)["memory"])])


def rows_exist(memory: SAMMemory, which: Build, slots: int) -> bool:
    """Whether the memory has all rows that a state on the CPU names; of tensors that a call refuses anyway it is not asked."""
    for rows in memory.row_lists().values():
        if rows.dtype is torch.int64 and rows.device.type == "cpu" and type(rows) is Tensor and rows.is_contiguous():
            library = call.library_of(which)
            if library.mb_first_bad_row(rows.data_ptr(), rows.numel(), ANY_NEGATIVE, slots) >= 0:
                return False
    return True


def ring_appends(model: NativeModel) -> int:
    """Count the entries that one step appends to the ring's queue: per write the popped row and all written, then all rows read."""
    support = model.reads * (model.heads // model.write_heads)
    return model.write_heads * (2 + support) + model.heads * model.reads


def model_sizes(model: NativeModel, steps: int, batch: int, *, taped: bool) -> dict[str, int]:
    """Name the sizes that do not change between calls with sequences of one shape."""
    return {
        "steps": steps,
        "batch": batch,
        "input_size": model.input_size,
        "output_size": model.output_size,
        "hidden": model.hidden,
        "slots": model.slots,
        "width": model.word_size,
        "heads": model.heads,
        "reads": model.reads,
        "write_heads": model.write_heads,
        "interface_size": model.interface_size,
        "strength": int(model.strength),
        "gated": int(model.erase == "gated"),
        "taped": int(taped),
        "rounded_bytes": taped * ROUNDED_BYTES[model.snapshot],
    }


def remarks(model: NativeModel, batch: int) -> list[str]:
    """Say what steps the elements of a batch where clusters of blocks are asked for, or should run and cannot."""
    weight = model.output.weight
    which = Build(call.name_of(weight.dtype), call.name_of(model.storage or weight.dtype))
    return cluster.remarks(which, model_sizes(model, steps=1, batch=batch, taped=True), weight.device)


def memory_sizes(rows: SparseMemory) -> dict[str, int]:
    """Name the sizes that change from call to call: where memory and ring stand."""
    ring = rows.ring
    return {
        "num_candidates": rows.num_candidates,
        "ring_tail": ring.tail,
        "queue_stride": ring.queue.shape[1],
        "threads": torch.get_num_threads(),
    }


def memory_buffers(rows: SparseMemory, head: Tensor) -> dict[str, Tensor]:
    """Name the buffers of rows and ring; `head` [B] receives the ring's head after the pass."""
    ring = rows.ring
    buffers = {
        "memory": rows.memory,
        "norms": rows.norms,
        "ring_last": ring.last,
        "ring_queue": ring.queue,
        "first_ring_head": ring.head,
        "ring_head": head,
    }
    return buffers if ring.start is None else {**buffers, "ring_start": ring.start}


@functools.cache
def build_for(real: torch.dtype, store: torch.dtype) -> Build:
    """The build for these dtypes of the model and of the memory rows; ValueError if there is none for such rows."""
    which = Build(call.name_of(real), call.name_of(store))
    if which.store not in (which.real, "bfloat16"):
        raise ValueError(f"state.memory: expected rows in {real} or torch.bfloat16, got {store}; make one with initial_state")
    return which
