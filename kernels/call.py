"""One custom operator through which the native entry points are called, so that autograd, torch.compile and profilers see them."""

import ctypes
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mann_bench.kernels import build
from mann_bench.kernels.arguments import SIZES, pack


class Build(NamedTuple):
    """Which build of the kernels: the number type of the model, that of the memory rows, and whether blocks are emulated by threads."""

    real: str = "float32"
    store: str = "float32"
    emulate: bool = False


@torch.library.custom_op("mann_bench::native", mutates_args={"buffers"})
def native(entry: str, which: str, names: str, inputs: Sequence[Tensor], buffers: Sequence[Tensor], sizes: Sequence[int]) -> None:
    """Run entry point `entry` of a build on inputs and on buffers changed in place, named in that order; sizes in the order of `SIZES`."""
    real, store, emulate = which.split(",")
    named = dict(zip(names.split(","), [*inputs, *buffers], strict=True))
    arguments = pack(dict(zip(SIZES, sizes, strict=True)), named, getattr(torch, real), getattr(torch, store))
    getattr(build.load(real, store, emulate=emulate == "True"), entry)(ctypes.byref(arguments))


@native.register_fake
def _(entry: str, which: str, names: str, inputs: Sequence[Tensor], buffers: Sequence[Tensor], sizes: Sequence[int]) -> None:
    return None


def call(entry: str, which: Build, inputs: Mapping[str, Tensor], buffers: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """`native` with its arguments by name."""
    named = ",".join((*inputs, *buffers))
    native(entry, ",".join(map(str, which)), named, list(inputs.values()), list(buffers.values()), [sizes.get(name, 0) for name in SIZES])


def scratch(which: Build, sizes: Mapping[str, int]) -> int:
    """Numbers of scratch that one batch element needs for a sequence."""
    arguments = pack(sizes, {}, torch.float32, torch.float32)
    return int(build.load(*which[:2], emulate=which.emulate).mb_scratch(ctypes.byref(arguments)))
