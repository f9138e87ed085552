"""SAM and SDNC run by the native sequence kernel: the same states, memory and rollback as the step-by-step reference."""

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mann_bench.kernels.index import Index
from mann_bench.kernels.native import build, driver
from mann_bench.kernels.native.call import Build
from mann_bench.kernels.sequence.autograd import SequencePass, Weights, sam_sequence
from mann_bench.models.sparse.memory import Pass
from mann_bench.models.state import ControllerState


class NativePass(Pass):
    """A pass made by one native call."""

    logs_ring = False
    sequence: SequencePass

    def rollback(self) -> None:
        """Undo the pass."""
        self.sequence.undo()
        self.finish()

    def redo(self) -> None:
        """Bring the memory forward again to the end of the pass, O(T)."""
        self.sequence.redo()
        super().redo()


def why_not(weight: Tensor, word_size: int, index: type[Index] | None = None) -> str | None:
    """Why a model (or, without an index, an op) with this weight cannot run on native kernels here, or None."""
    if index is not None and not index.in_sequence:
        return f"{index.__name__} is a library's, used step by step"
    real = str(weight.dtype).removeprefix("torch.")
    if real not in build.REALS:
        return f"native kernels compute in {' or '.join(build.REALS)}, not in {real}"
    if weight.device.type == "cuda":
        return driver.why_not(real, real, word_size)
    return build.why_not(real) if weight.device.type == "cpu" else f"there are no native kernels for {weight.device.type}"


def choose(kernels: str, weight: Tensor, word_size: int, index: type[Index] | None = None) -> str:
    """The kernels that run where `kernels` was asked for; RuntimeWarning if native was and there is none."""
    if kernels == "torch":
        return "torch"
    reason = why_not(weight, word_size, index)
    if reason and kernels == "native":
        warnings.warn(f"kernels='native' runs as 'torch': {reason}", RuntimeWarning, stacklevel=3)
    return "torch" if reason else "native"


def run(model: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """`SAM.run` as one native call: x [T, B, X] -> y [T, B, Y], state."""
    controller, memory = state.controller, state.memory
    rows, ring, cell, interface, output = memory.rows, memory.rows.ring, model.controller, model.interface, model.output
    steps, batch, _ = x.shape
    heads, reads, writers = model.heads, model.reads, model.write_heads
    taped = torch.is_grad_enabled()
    current = rows.begin(NativePass, memory.position, log=taped)
    ring_appends = steps * (writers * (2 + reads * (heads // writers)) + heads * reads)
    ring.reserve(ring_appends)
    head = torch.empty_like(ring.head)  # where the ring is after the pass: marks keep the old one, and so does a pass that fails
    more_sizes, buffers, constant = model.native_start(memory)
    index_sizes, index_buffers = rows.index.for_sequence()
    sizes = {
        "steps": steps,
        "batch": batch,
        "input_size": model.input_size,
        "output_size": model.output_size,
        "hidden": model.hidden,
        "slots": model.slots,
        "width": model.word_size,
        "heads": heads,
        "reads": reads,
        "write_heads": writers,
        "strength": int(model.strength),
        "gated": int(model.erase == "gated"),
        "taped": int(taped),
        **more_sizes,
        **index_sizes,
    }
    now = {"num_candidates": rows.live, "ring_tail": ring.tail, "queue_stride": ring.queue.shape[1], "threads": torch.get_num_threads()}
    buffers |= {"memory": rows.memory, "norms": rows.norms, **index_buffers}
    buffers |= {"ring_last": ring.last, "ring_queue": ring.queue, "first_ring_head": ring.head, "ring_head": head}
    if ring.start is not None:
        buffers["ring_start"] = ring.start
    current.sequence = SequencePass(build_for(x.dtype, rows.memory.dtype), sizes, now, buffers)
    of_cell = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    weights = Weights(*of_cell, interface.weight, interface.bias, output.weight, output.bias)
    before = (controller.hidden, controller.cell, controller.reads, memory.weights)
    after_steps = sam_sequence(current, constant, x.contiguous(), [state.contiguous() for state in before], weights)
    y, hidden, last_cell, last_reads, read_weights = after_steps
    ring.head = head
    ring.tail += ring_appends
    rows.live = min(model.slots, rows.live + steps * writers)
    after = model.native_end(memory, current.sequence.last, read_weights, rows.end(current))
    return y, model.join(ControllerState(hidden, last_cell, last_reads), after)


@functools.cache
def build_for(real: torch.dtype, store: torch.dtype) -> Build:
    """The build for these types of the model and of the memory rows."""
    return Build(str(real).removeprefix("torch."), str(store).removeprefix("torch."))


def run_uncompiled() -> Callable[[Any, Tensor, Any], tuple[Tensor, Any]]:
    """`run`, for which a compiled graph is left: the memory changes in place, behind its back. The compiler is not loaded for that."""
    return _outside_of_graphs() if "torch._dynamo" in sys.modules else run


@functools.cache
def _outside_of_graphs() -> Callable[[Any, Tensor, Any], tuple[Tensor, Any]]:
    uncompiled: Callable[[Any, Tensor, Any], tuple[Tensor, Any]] = torch.compiler.disable(run)
    return uncompiled
