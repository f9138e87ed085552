"""How tensors fill the buffers of a native call: a layout is made once for calls of the same kind and sizes, and checks each of them."""

import functools
import json
import math
import operator
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mann_bench.kernels.native.arguments import KINDS, PLACES, SIZES, Arguments

Shape = tuple[Any, ...]  # of ints; None: any size

_NO_BUFFERS = array("q", [0] * (len(KINDS) - len(SIZES)))
_DTYPE, _SHAPE, _DEVICE = (operator.attrgetter(name) for name in ("dtype", "shape", "device"))


class Build(NamedTuple):
    """Which build of the kernels: number type of the model and of the memory rows; on the CPU, whether blocks are emulated by fibers.

    `dense`: the build for models with a dense memory.
    """

    real: str = "float32"
    store: str = "float32"
    emulate: bool = False
    dense: bool = False

    def dtype(self, buffer: str) -> str:
        """Name the number type of a buffer."""
        return {"Real": self.real, "Store": self.store, "int8_t": "int8", "int32_t": "int32", "int64_t": "int64"}[KINDS[buffer]]


class TensorLayout(NamedTuple):
    """One tensor of a call: the buffers in it, each with its first byte, its number type, and its shape (None: not checked)."""

    buffers: tuple[tuple[str, int], ...]
    dtype: str
    shape: Any  # Shape, or None


class Layout:
    """What the tensors of a call are, and which buffers lie in them.

    Args:
        made: numbers of those tensors that the caller makes for the call by this layout: they need no check.

    Attributes:
        checked: of each tensor, whether it is checked.
        dtypes: of each tensor checked.
        shapes: of each tensor checked, equal to `Tensor.shape` where the sizes are those expected.
        buffers: of each buffer its place in `Arguments`, its tensor, and its first byte there.
    """

    def __init__(self, build: Build, tensors: Iterable[TensorLayout], made: Iterable[int] = ()) -> None:
        self.build, self.tensors, self.made = build, tuple(tensors), frozenset(made)
        self.checked = [number not in self.made for number in range(len(self.tensors))]
        self.dtypes = [getattr(torch, tensor.dtype) for tensor in compress(self.tensors, self.checked)]
        self.shapes = [_comparable(tensor.shape) for tensor in compress(self.tensors, self.checked)]
        self.buffers = tuple(
            (PLACES[name], number, first_byte) for number, tensor in enumerate(self.tensors) for name, first_byte in tensor.buffers
        )

    def misfit(self, tensors: Sequence[Tensor]) -> str | None:
        """Say what is wrong with the first tensor that has another number type or shape, is not contiguous or not on the first's device."""
        if len(tensors) != len(self.tensors):
            return f"expected {len(self.tensors)} tensors, got {len(tensors)}"
        device, given = tensors[0].device, [*compress(tensors, self.checked)]
        alike = [*map(_SHAPE, given)] == self.shapes and [*map(_DTYPE, given)] == self.dtypes
        if alike and [*map(_DEVICE, given)].count(device) == len(given) and all(map(Tensor.is_contiguous, given)):
            return None
        for expected, dtype, shape, tensor in zip(compress(self.tensors, self.checked), self.dtypes, self.shapes, given, strict=True):
            if tensor.dtype is not dtype or not tensor.is_contiguous() or tensor.device != device or tensor.shape != shape:
                name = "+".join(buffer for buffer, _ in expected.buffers)
                sizes = "" if expected.shape is None else f" [{', '.join('any' if size is None else str(size) for size in expected.shape)}]"
                got = f"{'' if tensor.is_contiguous() else 'non-contiguous '}{tensor.dtype} {list(tensor.shape)} on {tensor.device}"
                return f"{name}: expected a contiguous {dtype} tensor{sizes} on {device}, got {got}"
        return None

    @functools.cached_property
    def text(self) -> str:
        """The layout as text, for torch operators, which take no other objects."""
        return json.dumps([self.build, self.tensors, sorted(self.made)])

    @staticmethod
    @functools.lru_cache
    def parse(text: str) -> "Layout":
        """The inverse of `text`."""
        build, tensors, made = json.loads(text)
        return Layout(
            Build(*build),
            [
                TensorLayout(tuple((name, first_byte) for name, first_byte in buffers), dtype, shape and tuple(shape))
                for buffers, dtype, shape in tensors
            ],
            made,
        )


def of_buffer(build: Build, name: str, shape: Shape | None) -> TensorLayout:
    """Lay out a tensor that is one buffer."""
    return TensorLayout(((name, 0),), build.dtype(name), shape)


def of_block(build: Build, shapes: Mapping[str, Shape]) -> TensorLayout:
    """Pack several buffers into one tensor of the model's number type. The widest numbers come first, so that all are aligned."""
    buffers, end = [], 0
    bytes_of = {name: getattr(torch, build.dtype(name)).itemsize for name in shapes}
    for name in sorted(shapes, key=lambda name: -bytes_of[name]):
        buffers.append((name, end))
        end += math.prod(shapes[name]) * bytes_of[name]
    return TensorLayout(tuple(buffers), build.real, (-(-end // getattr(torch, build.real).itemsize),))


@functools.lru_cache
def of_buffers(build: Build, names: tuple[str, ...]) -> Layout:
    """Lay out tensors that are a buffer each, whose shapes the caller has checked."""
    return Layout(build, [of_buffer(build, name, None) for name in names])


def pack(layout: Layout, tensors: Sequence[Tensor], sizes: Sequence[int]) -> Arguments:
    """Fill the call structure.

    Args:
        layout: of the tensors.
        sizes: in the order of `SIZES`.

    Raises:
        ValueError: a tensor does not fit (`Layout.misfit`).
    """
    if wrong := layout.misfit(tensors):
        raise ValueError(wrong)
    addresses = [*map(Tensor.data_ptr, tensors)]
    values = array("q", sizes) + _NO_BUFFERS
    for place, number, first_byte in layout.buffers:
        values[place] = addresses[number] + first_byte
    return Arguments.from_buffer(values)


class _AnySize:
    """Equal to every size."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


_ANY: Any = _AnySize()


def _comparable(shape: Shape | None) -> Any:
    """What `Tensor.shape` equals where it is as expected; that a list of such is compared at once keeps a call short."""
    return _ANY if shape is None else tuple(_ANY if size is None else size for size in shape)
