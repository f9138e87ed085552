"""The call structure of the native kernels, read from `csrc/arguments.h` so that it is said once."""

import ctypes
from collections.abc import Mapping

from mann_bench.kernels.native.headers import argument_types

KINDS = argument_types()
SIZES = tuple(name for name, kind in KINDS.items() if kind == "SIZE")  # they stand first
PLACES = {name: place for place, name in enumerate(KINDS)}


class Arguments(ctypes.Structure):
    """Sizes and buffer addresses of one call, 64 bits each; unnamed ones are 0."""

    _fields_ = [(name, ctypes.c_int64) for name in KINDS]


def in_order(sizes: Mapping[str, int]) -> list[int]:
    """Sizes by name in the order of `SIZES`; others are 0."""
    return [sizes.get(name, 0) for name in SIZES]
