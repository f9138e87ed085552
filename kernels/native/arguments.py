"""The call structure of the native kernels, read from `csrc/arguments.h` so that it is said once."""

import ctypes
import functools
import math
import operator
from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mann_bench.kernels.native.headers import argument_types

KINDS = argument_types()
SIZES = tuple(name for name, kind in KINDS.items() if kind == "SIZE")  # they stand first
PLACES = {name: place for place, name in enumerate(KINDS)}
_NO_BUFFERS = array("q", [0] * (len(KINDS) - len(SIZES)))


class Arguments(ctypes.Structure):
    """Sizes and buffer addresses of one call, 64 bits each; unnamed ones are 0."""

    _fields_ = [(name, ctypes.c_int64) for name in KINDS]


class Numbers(NamedTuple):
    """The number types of a call: of the model and of the memory rows."""

    real: torch.dtype
    store: torch.dtype

    def of(self, name: str) -> torch.dtype:
        """The type of a buffer."""
        return {"Real": self.real, "Store": self.store, "int32_t": torch.int32, "int64_t": torch.int64}[KINDS[name]]


def in_one_block(shapes: Mapping[str, Sequence[int]], numbers: Numbers) -> tuple[str, int]:
    """How to keep several buffers in one tensor of `numbers.real`: its name for `pack`, "NAME@BYTE+NAME@BYTE", and how many numbers it has.

    Those of the widest numbers come first, so that each is aligned to its own.
    """
    parts, offset_bytes = [], 0
    for name in sorted(shapes, key=lambda name: -numbers.of(name).itemsize):
        parts.append(f"{name}@{offset_bytes}")
        offset_bytes += math.prod(shapes[name]) * numbers.of(name).itemsize
    return "+".join(parts), -(-offset_bytes // numbers.real.itemsize)


@functools.lru_cache(maxsize=256)
def parse(names: str, numbers: Numbers) -> tuple[list[torch.dtype], tuple[tuple[int, int, int], ...]]:
    """From "NAME,NAME@BYTE+NAME@BYTE" to the type of each tensor, and of each buffer its place in `Arguments`, tensor, first byte."""
    dtypes, buffers = [], []
    for tensor, name in enumerate(names.split(",")):
        dtypes.append(numbers.real if "@" in name else numbers.of(name))
        for part in name.split("+"):
            buffer, _, offset_bytes = part.partition("@")
            buffers.append((PLACES[buffer], tensor, int(offset_bytes or 0)))
    return dtypes, tuple(buffers)


_DTYPE, _DEVICE = operator.attrgetter("dtype"), operator.attrgetter("device")


def pack(names: str, tensors: Sequence[Tensor], sizes: Sequence[int], numbers: Numbers) -> Arguments:
    """The structure for a call with the tensors named, comma between names, and sizes in the order of `SIZES`; ValueError for a tensor
    that is not contiguous, of another dtype, or not on the device of the first.
    """
    dtypes, buffers = parse(names, numbers)
    device = tensors[0].device
    alike = [*map(_DTYPE, tensors)] == dtypes and [*map(_DEVICE, tensors)].count(device) == len(tensors)
    if not alike or not all(map(Tensor.is_contiguous, tensors)):
        raise ValueError(_what_is_wrong(names, tensors, dtypes, device))
    addresses = [*map(Tensor.data_ptr, tensors)]
    values = array("q", sizes) + _NO_BUFFERS
    for place, tensor_number, offset_bytes in buffers:
        values[place] = addresses[tensor_number] + offset_bytes
    return Arguments.from_buffer(values)


def _what_is_wrong(names: str, tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype], device: torch.device) -> str:
    """Of the first tensor that cannot be packed."""
    for name, tensor, dtype in zip(names.split(","), tensors, dtypes, strict=False):
        if tensor.dtype is not dtype or not tensor.is_contiguous() or tensor.device != device:
            got = f"{'' if tensor.is_contiguous() else 'non-contiguous '}{tensor.dtype} on {tensor.device}"
            return f"{name}: expected a contiguous {dtype} tensor on {device}, got {got}"
    return f"expected {len(dtypes)} tensors ({names}), got {len(tensors)}"
