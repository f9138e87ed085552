"""`sparse_read` and its gradients on native kernels; twin: `kernels/reference/sparse_rows.py`.

A read of a few rows takes less time than the way to it through torch's dispatcher, so only a call that something looks at goes that way.
"""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from mann_bench.kernels.native import call as native
from mann_bench.kernels.native.registration import operator
from mann_bench.kernels.ops.operator import Call, Kind, threads_for

INPUTS = ("memory", "index", "weights")


def sparse_read(memory: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Compute a weighted sum of K rows a head (Rae et al. 2016, eq 4); differentiable in memory (a dense gradient) and weights.

    Args:
        memory: [B, N, W], may be bfloat16.
        index: int64 [B, R, K], negative: none.
        weights: [B, R, K].

    Returns:
        [B, R, W].
    """
    if _is_watched((memory, index, weights)):
        reads: Tensor = _sparse_read_op(memory, index, weights)
    elif torch.is_grad_enabled() and (weights.requires_grad or memory.requires_grad):
        reads = _SparseRead.apply(memory, index, weights)
    else:
        reads = _sparse_read(memory, index, weights)
    return reads


class _SparseRead(torch.autograd.Function):
    """The read in autograd's graph, without torch's dispatcher."""

    @staticmethod
    def forward(ctx: Any, memory: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(memory, index, weights)
        ctx.reading = _sound(memory, index, weights)
        return _read(ctx.reading, memory, index, weights)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor]:
        return (_back_once if torch.is_grad_enabled() else _back)(ctx, grad)


class _Reading(NamedTuple):
    """Calls for arguments of certain kinds, which have been found sound."""

    call: Call
    slots: int
    read_shape: tuple[int, int, int]
    forward: native.Prepared
    backward: native.Prepared
    backward_to_memory: native.Prepared


@functools.lru_cache
def _reading(memory: Kind, index: Kind, weights: Kind, threads: int) -> _Reading:
    """Check arguments by their kinds. `threads` is torch's number, on which that of the call depends."""
    call = Call("sparse_read", weights, memory)
    batch, slots, width = call.expect("memory", memory, call.store, B=None, N=None, W=None)
    _, heads, reads = call.expect("index", index, torch.int64, B=batch, R=None, K=None)
    call.expect("weights", weights, call.real, B=batch, R=heads, K=reads)
    sizes = {"batch": batch, "slots": slots, "width": width, "heads": heads, "reads": reads}
    sizes["threads"] = threads_for(batch * heads * reads * width * memory.dtype.itemsize)
    backward = (*INPUTS, "values", "out")
    entries = (
        ("mb_sparse_read", (*INPUTS, "out")),
        ("mb_sparse_read_back", backward),
        ("mb_sparse_read_back", (*backward, "row_gradient")),
    )
    prepared = (native.Prepared(entry, call.which, names, sizes, call.device) for entry, names in entries)
    return _Reading(call, slots, (batch, heads, width), *prepared)


def _sound(memory: Tensor, index: Tensor, weights: Tensor) -> _Reading:
    """Check all of the arguments."""
    reading = _reading(Kind.of(memory), Kind.of(index), Kind.of(weights), torch.get_num_threads())
    if not memory.is_contiguous():
        raise ValueError(f"sparse_read: memory: expected a contiguous tensor, got strides {memory.stride()}; call memory.contiguous()")
    reading.call.rows_in_range({"index": index.contiguous()}, reading.slots)
    return reading


def _read(reading: _Reading, memory: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    out = weights.new_empty(reading.read_shape)
    reading.forward(memory, index.contiguous(), weights.contiguous(), out)
    return out


def _read_back(
    reading: _Reading, memory: Tensor, index: Tensor, weights: Tensor, grad: Tensor, with_memory_grad: bool
) -> tuple[Tensor | None, Tensor]:
    weights = weights.contiguous()
    out = torch.empty_like(weights)
    if not with_memory_grad:
        reading.backward(memory, index.contiguous(), weights, grad.contiguous(), out)
        return None, out
    gradient = weights.new_zeros(memory.shape)
    reading.backward_to_memory(memory, index.contiguous(), weights, grad.contiguous(), out, gradient)
    return gradient, out


def _back(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor]:
    memory, index, weights = ctx.saved_tensors  # unchanged since the forward call checked them
    gradient, grad_weights = _read_back(ctx.reading, memory, index, weights, grad, ctx.needs_input_grad[0])
    return None if gradient is None else gradient.to(memory.dtype), None, grad_weights


_back_once = once_differentiable(_back)


def _sparse_read(memory: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    return _read(_sound(memory, index, weights), memory, index, weights)


def _sparse_read_back(memory: Tensor, index: Tensor, weights: Tensor, grad: Tensor, with_memory_grad: bool) -> tuple[Tensor, Tensor]:
    reading = _sound(memory, index, weights)
    batch, heads, width = reading.read_shape
    reading.call.expect("grad", grad, reading.call.real, B=batch, R=heads, W=width)
    gradient, out = _read_back(reading, memory, index, weights, grad, with_memory_grad)
    return weights.new_empty(0) if gradient is None else gradient, out


def _is_watched(tensors: tuple[Tensor, ...]) -> bool:
    """Whether a compiler, a profiler, a mode, a transform or a tensor of another kind must see the operator."""
    return (
        torch.compiler.is_compiling()
        or native.is_watched()
        or forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or any(type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.is_meta for tensor in tensors)
    )


def _read_like(memory, index, weights):  # type: ignore[no-untyped-def]
    return weights.new_empty(*index.shape[:2], memory.shape[2])


def _gradients_like(memory, index, weights, grad, with_memory_grad):  # type: ignore[no-untyped-def]
    return weights.new_empty(memory.shape if with_memory_grad else 0), weights.new_empty(weights.shape)


_sparse_read_op = operator(_sparse_read, _read_like)
_sparse_read_back_op = operator(_sparse_read_back, _gradients_like)


def _save_inputs(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _gradients(ctx, grad):  # type: ignore[no-untyped-def]
    memory, index, weights = ctx.saved_tensors
    gradient, grad_weights = _sparse_read_back_op(memory, index, weights, grad, ctx.needs_input_grad[0])
    return gradient.to(memory.dtype) if ctx.needs_input_grad[0] else None, None, grad_weights


torch.library.register_autograd("mann_bench::sparse_read", _gradients, setup_context=_save_inputs)
