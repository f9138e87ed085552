"""Addresses of tensors in one call of DLPack's C interface, each tensor checked (`csrc/tensors.h`): what `layout.pack` does by many."""

import ctypes
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Code and bits of a number type in dlpack.h.
TYPES = {"int8": (0, 8), "int32": (0, 32), "int64": (0, 64), "float32": (2, 32), "float64": (2, 64), "bfloat16": (4, 16)}


class _Interface(ctypes.Structure):
    """`DLPackExchangeAPI` of dlpack.h, as far as it is used."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("previous", ctypes.c_void_p),
        ("allocate", ctypes.c_void_p),
        ("from_object", ctypes.c_void_p),
        ("to_object", ctypes.c_void_p),
        ("look_at_object", ctypes.c_void_p),
    ]


def look_at_object() -> int | None:
    """Address of the function that says where a tensor lies and what its type and shape are; None: torch has no such interface."""
    from torch import Tensor  # libraries are also built where nothing else needs torch, which loads slowly

    capsule = getattr(Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return None
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    interface = _Interface.from_address(pointer(capsule, b"dlpack_exchange_api"))
    return interface.look_at_object if interface.major == 1 else None


class Taker:
    """Takes the addresses of tensors, by the function of any library that has been loaded; until then, and without DLPack, of none."""

    def __init__(self) -> None:
        self.take: Any = None
        self.look_at: int | None = None

    def use(self, path: str) -> None:
        """Use the function of a library that is loaded."""
        if self.take is not None or (look_at := look_at_object()) is None:
            return
        take = ctypes.PyDLL(path).mb_take_tensors  # which keeps Python from running meanwhile: the function looks at its objects
        take.restype = ctypes.c_int64
        take.argtypes = (ctypes.c_void_p,) * 4
        self.take, self.look_at = take, look_at

    def __call__(self, described: "array[int]", tensors: "Sequence[Tensor]", values: "array[int]") -> bool:
        """Put addresses into their places among `values`; False, where one does not fit or cannot be looked at."""
        if self.take is None:
            return False
        objects = array("q", [*map(id, tensors)])  # where they are, in CPython
        try:
            taken: int = self.take(self.look_at, objects.buffer_info()[0], described.buffer_info()[0], values.buffer_info()[0])
        except (BufferError, RuntimeError, TypeError):
            return False
        return taken == 1


def describe(tensors: Sequence[tuple[str, Sequence[int | None] | None]], buffers: Sequence[tuple[int, int, int]]) -> "array[int]":
    """Describe tensors, their types and shapes (None: any), and buffers: place, tensor, first byte; as `csrc/tensors.h` reads it."""
    told: list[int] = []
    for dtype, shape in tensors:
        dims = [] if shape is None else [-1 if size is None else size for size in shape]
        told += [*TYPES[dtype], -1 if shape is None else len(dims), *dims]
    return array("q", [len(tensors), len(buffers), *told, *(number for buffer in buffers for number in buffer)])


taker = Taker()
