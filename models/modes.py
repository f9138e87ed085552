"""Modes of torch that a caller may have set around a model, and how a model keeps out of them while it runs."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from mann_bench.kernels.autocast import autocast_is_on, without_autocast

P = ParamSpec("P")
R = TypeVar("R")
_NOTHING = nullcontext()


def ordinary(device: torch.device) -> AbstractContextManager[object]:
    """Leave autocast and inference mode for a while; where neither is on, nothing happens.

    Autocast: the rounding of a lower precision would grow from step to step, and a shared memory has one type, so a model computes in the
    type of its parameters. Inference mode: what is made in it can never be changed in place outside of it, but passes in all modes share a
    memory. Gradients stay off.
    """
    if autocast_is_on(device) or torch.is_inference_mode_enabled():
        return _ordinary(device)
    return _NOTHING


@contextmanager
def _ordinary(device: torch.device) -> Iterator[None]:
    with without_autocast(device), outside_inference_mode():
        yield


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Make ordinary tensors, also in inference mode."""
    gradients = torch.is_grad_enabled()  # leaving inference mode would turn them on
    with torch.inference_mode(False), torch.set_grad_enabled(gradients):
        yield


def input_for(weight: Tensor, x: Tensor) -> Tensor:
    """Return x; under autocast, where the layer before may have computed in a lower precision, in the type of the parameters."""
    return x.to(weight.dtype) if x.dtype is not weight.dtype and autocast_is_on(weight.device) and x.is_floating_point() else x


def in_function_forward() -> bool:
    """Whether the forward of a `torch.autograd.Function` is running; only there forward-mode gradients are off in an ordinary mode.

    With reentrant activation checkpointing the whole model runs there, and once more in backward.
    """
    return not torch._C._is_fwd_grad_enabled()


def in_backward() -> bool:
    """Whether a backward is running in this thread."""
    return current_backward() != -1


def current_backward() -> int:
    """The number of the backward that is running in this thread; -1: none."""
    number: int = torch._C._current_graph_task_id()
    return number


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function excluded from torch.compile, as native passes are. Without a compiler in use, torch._dynamo is not loaded."""
    return _excluded_from_compile(function) if "torch._dynamo" in sys.modules else function


@functools.cache
def _excluded_from_compile(function: Callable[P, R]) -> Callable[P, R]:
    excluded: Callable[P, R] = torch.compiler.disable(function)
    return excluded
