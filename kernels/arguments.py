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
    """Sizes and buffer addresses of one call; unnamed ones are 0."""

    _fields_ = [(name, ctypes.c_int64 if kind == "SIZE" else ctypes.c_void_p) for name, kind in KINDS.items()]


def pack(sizes: Mapping[str, int], buffers: Mapping[str, Tensor], real: torch.dtype, store: torch.dtype) -> Arguments:
    """The structure for a call; ValueError for a buffer that is not contiguous, of another dtype, or not on the device of the first."""
    arguments = Arguments(**sizes)
    dtypes = {"REAL": real, "STORE": store, "INT32": torch.int32, "INT64": torch.int64}
    device = device_of(buffers)
    for name, tensor in buffers.items():
        expected = dtypes[KINDS[name]]
        if tensor.dtype != expected or not tensor.is_contiguous() or tensor.device != device:
            got = f"{'' if tensor.is_contiguous() else 'non-contiguous '}{tensor.dtype} on {tensor.device}"
            raise ValueError(f"{name}: expected a contiguous {expected} tensor on {device}, got {got}")
        setattr(arguments, name, tensor.data_ptr())
    return arguments


def device_of(buffers: Mapping[str, Tensor]) -> torch.device:
    """Where a call runs: the device of its first buffer."""
    return next(iter(buffers.values())).device
