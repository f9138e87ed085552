"""The call structure of the native kernels, read from `csrc/arguments.h` so that it is said once."""

import ctypes
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

SOURCES = Path(__file__).resolve().parent / "csrc"
KINDS: dict[str, str] = {
    name: kind
    for kind, name in re.findall(
        r"\b(SIZE|REAL|STORE|INT32|INT64)\((\w+)\)", (SOURCES / "arguments.h").read_text().partition("namespace")[0]
    )
}
SIZES = tuple(name for name, kind in KINDS.items() if kind == "SIZE")


class Arguments(ctypes.Structure):
    """Sizes and buffer addresses of one call, 64 bits each; unnamed ones are 0."""

    _fields_ = [(name, ctypes.c_int64) for name in KINDS]


def pack(sizes: Mapping[str, int], buffers: Mapping[str, Tensor], real: torch.dtype, store: torch.dtype) -> Arguments:
    """The structure for a call; ValueError for a buffer that is not contiguous, of another dtype, or not on the device of the first."""
    dtypes = {"REAL": real, "STORE": store, "INT32": torch.int32, "INT64": torch.int64}
    device = device_of(buffers)
    values = dict(sizes)
    for name, tensor in buffers.items():
        if tensor.dtype is not dtypes[KINDS[name]] or not tensor.is_contiguous() or tensor.device != device:
            got = f"{'' if tensor.is_contiguous() else 'non-contiguous '}{tensor.dtype} on {tensor.device}"
            raise ValueError(f"{name}: expected a contiguous {dtypes[KINDS[name]]} tensor on {device}, got {got}")
        values[name] = tensor.data_ptr()
    return Arguments(**values)


def device_of(buffers: Mapping[str, Tensor]) -> torch.device:
    """Where a call runs: the device of its first buffer."""
    return next(iter(buffers.values())).device
