"""Addresses of tensors by DLPack's C interface, each tensor checked, and a call with them, all in one (`csrc/tensors.h`).

`layout.pack` does the same by many calls.
"""

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
    """Takes the addresses of tensors, by functions of any library that has been loaded; until then, and without DLPack, of none."""

    def __init__(self) -> None:
        self.take: Any = None
        self.take_and_run: Any = None
        self.python = array("q")  # what those functions call

    def use(self, path: str) -> None:
        """Use the functions of a library that is loaded."""
        if self.take is not None or (look_at := look_at_object()) is None:
            return
        library = ctypes.PyDLL(path)  # which keeps Python from running meanwhile: the functions look at its objects
        pointer, functions = ctypes.c_void_p, (library.mb_take_tensors, library.mb_take_and_run)
        for function, entries in zip(functions, ((), (pointer, ctypes.c_int64)), strict=True):
            function.restype, function.argtypes = ctypes.c_int64, (pointer, ctypes.py_object, pointer, pointer, *entries)
        names = ("PyList_GetItem", "PyEval_SaveThread", "PyEval_RestoreThread")
        self.python = array("q", [look_at, *(address(getattr(ctypes.pythonapi, name)) for name in names)])
        self.take, self.take_and_run = functions

    def __call__(self, described: "array[int]", tensors: "list[Tensor]", values: "array[int]", entries: "array[int] | None" = None) -> bool:
        """Put addresses into their places among `values`; False, where one does not fit or cannot be looked at.

        Args:
            entries: addresses of entry points that are then called with the values.
        """
        if self.take is None:
            return False
        given = self.python.buffer_info()[0], tensors, described.buffer_info()[0], values.buffer_info()[0]
        try:
            taken: int = self.take(*given) if entries is None else self.take_and_run(*given, *entries.buffer_info())
        except (BufferError, RuntimeError, TypeError):
            return False
        return taken == 1


def address(function: Any) -> int:
    """Where a C function lies."""
    found = ctypes.cast(function, ctypes.c_void_p).value
    assert found is not None
    return found


def describe(tensors: Sequence[tuple[str, Sequence[int | None] | None]], buffers: Sequence[tuple[int, int, int]]) -> "array[int]":
    """Describe tensors, their types and shapes (None: any), and buffers: place, tensor, first byte; as `csrc/tensors.h` reads it."""
    told: list[int] = []
    for dtype, shape in tensors:
        dims = [] if shape is None else [-1 if size is None else size for size in shape]
        told += [*TYPES[dtype], -1 if shape is None else len(dims), *dims]
    return array("q", [len(tensors), len(buffers), *told, *(number for buffer in buffers for number in buffer)])


taker = Taker()
