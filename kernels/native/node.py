"""`differentiable`: a function with a backward in Python, and in torch's graph a node in C++ that calls it (`csrc/node/node.cpp`).

The layers of `torch.autograd.Function` around it take a tenth of a short pass. The node is compiled on first use, where the headers of
torch and Python are; elsewhere, and under profilers, transforms of `torch.func` and forward-mode gradients, `torch.autograd.Function`
does the same.
"""

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from mann_bench.kernels.native import build, extension
from mann_bench.kernels.native.call import is_watched

Forward = Callable[[], list[Tensor]]
Backward = Callable[..., Sequence[Tensor | None]]
Differentiable = Callable[[Forward, Backward, list[Tensor]], list[Tensor]]


def differentiable(forward: Forward, backward: Backward, inputs: list[Tensor]) -> list[Tensor]:
    """Call a function that autograd sees as one.

    Args:
        forward: makes the outputs, new tensors; it runs without gradients.
        backward: takes the gradients of the outputs, None where there is none, and returns those of the inputs, None where there is none.
            It cannot be differentiated again. It is released with the graph.
        inputs: of which the outputs are a function.
    """
    node = _compiled()
    if node is None or is_watched() or forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return list(_Function.apply(forward, backward, *inputs))
    return node(forward, backward, inputs)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, forward, backward, *inputs):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        ctx.call = backward
        return tuple(forward())

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # type: ignore[no-untyped-def]
        return None, None, *ctx.call(*gradients)


@functools.cache
def _compiled() -> Differentiable | None:
    """The function of the library, or None."""
    return None if why_not() else _load()


@functools.cache
def why_not() -> str | None:
    """Why `torch.autograd.Function` does its work here, or None; found out once in a process."""
    try:
        _load()
    except build.BuildError as error:
        return str(error)
    return None


@functools.cache
def _load() -> Differentiable:
    return build.open_sound(extension.library, _open)


def _open(path: Path) -> Differentiable:
    function = ctypes.PyDLL(str(path)).mb_differentiable  # of Python's objects: Python does not run meanwhile
    function.restype, function.argtypes = ctypes.py_object, (ctypes.py_object,) * 3
    of_library: Differentiable = function
    return of_library
