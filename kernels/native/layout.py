"""How tensors fill the buffers of a native call: a layout is made once for calls of the same kind and sizes, and checks each of them."""

import functools
import json
import math
import operator
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mann_bench.kernels.native.arguments import KINDS, PLACES, SIZES, Arguments
from mann_bench.kernels.native.tensors import describe, taker

Shape = tuple[Any, ...]  # of ints; None: any size

_UNUSED = array("q", [0] * len(KINDS))  # where addresses go that nobody reads
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

    Attributes:
        dtypes: of each tensor.
        shapes: of each tensor, equal to `Tensor.shape` where the sizes are those expected.
        buffers: of each buffer its place in `Arguments`, its tensor, and its first byte there.
    """

    def __init__(self, build: Build, tensors: Iterable[TensorLayout]) -> None:
        self.build, self.tensors = build, tuple(tensors)
        self.dtypes = [getattr(torch, tensor.dtype) for tensor in self.tensors]
        self.shapes = [_comparable(tensor.shape) for tensor in self.tensors]
        self.buffers = tuple(
            (PLACES[name], number, first_byte) for number, tensor in enumerate(self.tensors) for name, first_byte in tensor.buffers
        )

    @functools.cached_property
    def described(self) -> "array[int]":
        """The layout for `taker`."""
        return describe([(of.dtype, of.shape) for of in self.tensors], self.buffers)

    def fit(self, tensors: list[Tensor]) -> bool:
        """Whether tensors on the CPU fit, found out faster than what is wrong with them; False also where `misfit` must be asked."""
        return self.take(tensors, _UNUSED)

    def take(self, tensors: list[Tensor], values: "array[int]") -> bool:
        """Put the addresses of the buffers into their places among `values`, the fields of `Arguments`, if `fit` holds."""
        return len(tensors) == len(self.tensors) and taker(self.described, tensors, values)

    def run(self, tensors: list[Tensor], sizes: Sequence[int], entries: "array[int]") -> bool:
        """Call entry points, given by their addresses, with tensors and sizes, if `fit` holds; `sizes` are in the order of `SIZES`."""
        return len(tensors) == len(self.tensors) and taker(self.described, tensors, array("q", sizes) + _NO_BUFFERS, entries)

    def misfit(self, tensors: Sequence[Tensor]) -> str | None:
        """Say what is wrong with the first tensor that has another number type or shape, is not contiguous or not on the first's device."""
        device = tensors[0].device
        alike = [*map(_SHAPE, tensors)] == self.shapes and [*map(_DTYPE, tensors)] == self.dtypes
        if alike and [*map(_DEVICE, tensors)].count(device) == len(tensors) and all(map(Tensor.is_contiguous, tensors)):
            return None
        for expected, dtype, shape, tensor in zip(self.tensors, self.dtypes, self.shapes, tensors, strict=False):
            if tensor.dtype is not dtype or not tensor.is_contiguous() or tensor.device != device or tensor.shape != shape:
                name = "+".join(buffer for buffer, _ in expected.buffers)
                sizes = "" if expected.shape is None else f" [{', '.join('any' if size is None else str(size) for size in expected.shape)}]"
                got = f"{'' if tensor.is_contiguous() else 'non-contiguous '}{tensor.dtype} {list(tensor.shape)} on {tensor.device}"
                return f"{name}: expected a contiguous {dtype} tensor{sizes} on {device}, got {got}"
        return f"expected {len(self.tensors)} tensors, got {len(tensors)}"

    @functools.cached_property
    def text(self) -> str:
        """The layout as text, for torch operators, which take no other objects."""
        return json.dumps([self.build, self.tensors])

    @staticmethod
    @functools.lru_cache
    def parse(text: str) -> "Layout":
        """The inverse of `text`."""
        build, tensors = json.loads(text)
        return Layout(
            Build(*build),
            [
                TensorLayout(tuple((name, first_byte) for name, first_byte in buffers), dtype, shape and tuple(shape))
                for buffers, dtype, shape in tensors
            ],
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


def pack(layout: Layout, tensors: list[Tensor], sizes: Sequence[int]) -> Arguments:
    """Fill the call structure.

    Args:
        layout: of the tensors.
        sizes: in the order of `SIZES`.

    Raises:
        ValueError: a tensor does not fit (`Layout.misfit`).
    """
    values = array("q", sizes) + _NO_BUFFERS
    if layout.take(tensors, values):
        return Arguments.from_buffer(values)
    if wrong := layout.misfit(tensors):
        raise ValueError(wrong)
    addresses = [*map(Tensor.data_ptr, tensors)]
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
