"""One custom operator through which the native entry points are called, so that autograd, torch.compile and profilers see them."""

import ctypes
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mann_bench.kernels import build, driver
from mann_bench.kernels.arguments import SIZES, Arguments, device_of, pack
from mann_bench.kernels.registration import operator


class Build(NamedTuple):
    """Which build of the kernels: number type of the model and of the memory rows; on the CPU, whether blocks are emulated by threads."""

    real: str = "float32"
    store: str = "float32"
    emulate: bool = False


def native(entry: str, which: str, names: str, inputs: Sequence[Tensor], buffers: Sequence[Tensor], sizes: Sequence[int]) -> None:
    """Run entry point `entry` of a build on inputs and on buffers changed in place, named in that order; sizes in the order of `SIZES`."""
    real, store, emulate = which.split(",")
    named = dict(zip(names.split(","), [*inputs, *buffers], strict=True))
    run(entry, Build(real, store, emulate == "True"), named, dict(zip(SIZES, sizes, strict=True)))


_operator = operator(native, lambda *arguments: None, ("buffers",))


def call(entry: str, which: Build, inputs: Mapping[str, Tensor], buffers: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """`native` with its arguments by name."""
    named = ",".join((*inputs, *buffers))
    chosen, given = ",".join(map(str, which)), [sizes.get(name, 0) for name in SIZES]
    _operator(entry, chosen, named, list(inputs.values()), list(buffers.values()), given)


def run(entry: str, which: Build, buffers: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """What `native` does, on the device of the buffers."""
    arguments, device = pack(sizes, buffers, getattr(torch, which.real), getattr(torch, which.store)), device_of(buffers)
    for name in schedule(entry, arguments):
        if device.type == "cuda":
            driver.launch(name, arguments, which.real, which.store, device)
        else:
            getattr(build.load(which.real, which.store, emulate=which.emulate), name)(ctypes.byref(arguments))


def schedule(entry: str, arguments: Arguments) -> Iterator[str]:
    """The entry points that make up one: with parts, the rows of an element are searched by many blocks between the pieces of `forward`."""
    if entry != "mb_forward" or arguments.parts < 2:
        yield entry
        return
    for step in range(arguments.steps + 1):
        arguments.step = step
        yield "mb_forward_step"
        if step < arguments.steps:
            yield "mb_search_part"


VARYING = {"steps", "batch", "threads", "taped", "live", "ring_tail", "queue_stride", "scratch_stride", "parts"}  # scratch is alike for all


def scratch(which: Build, sizes: Mapping[str, int], device: torch.device) -> tuple[int, int]:
    """Numbers of scratch that a sequence needs for one batch element, and for each part of one. On a GPU, the first call waits for it."""
    return _scratch(which, tuple((name, size) for name, size in sorted(sizes.items()) if name not in VARYING), device)


@functools.lru_cache
def _scratch(which: Build, sizes: tuple[tuple[str, int], ...], device: torch.device) -> tuple[int, int]:
    numbers = torch.empty(2, dtype=torch.int64, device=device)
    run("mb_scratch", which, {"index": numbers}, {**dict(sizes), "batch": 1})
    element, part = numbers.tolist()
    return element, part
