"""Calls of the native entry points, on the device of their tensors; as a torch operator where autograd, compilers or profilers look on."""

import ctypes
import functools
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from mann_bench.kernels.native import build, driver
from mann_bench.kernels.native.arguments import PLACES, SIZES, Arguments, in_order
from mann_bench.kernels.native.layout import Build, Layout, of_buffers, pack
from mann_bench.kernels.native.registration import operator
from mann_bench.kernels.native.tensors import address


def why_not(device: torch.device, real: torch.dtype, store: torch.dtype, width: int, *, dense: bool = False) -> str | None:
    """Return why no native kernels run on a device, for a model that computes in `real` over rows [N, width] of `store`, or None.

    Args:
        dense: the model has a dense memory.
    """
    real_name, store_name = name_of(real), name_of(store)
    if real_name not in build.REALS:
        return f"native kernels compute in {' or '.join(build.REALS)}, not in {real_name}"
    if device.type == "cuda":
        return driver.why_not(real_name, store_name, width)
    return build.why_not(real_name, dense=dense) if device.type == "cpu" else f"there are no native kernels for {device.type}"


@functools.cache
def name_of(dtype: torch.dtype) -> str:
    """Name a number type as `Build` does."""
    return str(dtype).removeprefix("torch.")


def native(entry: str, layout: str, inputs: Sequence[Tensor], buffers: Sequence[Tensor], sizes: Sequence[int]) -> None:
    """Run entry point `entry` on inputs and on buffers changed in place, laid out as `Layout.text` says; sizes in the order of `SIZES`."""
    run(entry, Layout.parse(layout), [*inputs, *buffers], sizes)


_operator = operator(native, lambda *arguments: None, ("buffers",))


def call(entry: str, layout: Layout, inputs: Sequence[Tensor], buffers: Sequence[Tensor], sizes: Sequence[int]) -> None:
    """`native`, through torch's dispatcher where something would see it there: it takes longer than a few steps of a sequence."""
    if is_watched():
        _operator(entry, layout.text, inputs, buffers, list(sizes))
    else:
        run(entry, layout, [*inputs, *buffers], sizes)


def is_watched() -> bool:
    """Whether a profiler or a dispatch mode must see what is called."""
    return torch.autograd.profiler._is_profiler_enabled or torch._C._len_torch_dispatch_stack() > 0


def run(entry: str, layout: Layout, tensors: list[Tensor], sizes: Sequence[int]) -> None:
    """What `native` does, on the device of the tensors."""
    device, which = device_of(tensors[0]), layout.build
    if device.type == "cpu" and sizes[PLACES["parts"]] <= 1 and layout.run(tensors, sizes, entries(entry, layout)):
        return
    arguments = pack(layout, tensors, sizes)
    if device.type == "cuda":
        for name in schedule(entry, arguments):
            driver.launch(name, arguments, which.real, which.store, device)
    else:
        library, reference = library_of(which), ctypes.byref(arguments)
        for name in schedule(entry, arguments):
            getattr(library, name)(reference)


@functools.lru_cache(maxsize=512)
def entries(entry: str, layout: Layout) -> "array[int]":
    """Addresses of the entry points on the CPU that make up one, where no search is divided among blocks."""
    given = Arguments(**{name: 1 for of in layout.tensors for name, _ in of.buffers})  # they depend on which buffers there are
    library = library_of(layout.build)
    return array("q", [address(getattr(library, name)) for name in schedule(entry, given)])


def library_of(which: Build) -> ctypes.CDLL:
    """The loaded library of a build for the CPU."""
    return build.load(which.real, which.store, emulate=which.emulate, dense=which.dense)


def device_of(tensor: Tensor) -> torch.device:
    """Where a call runs whose first tensor this is."""
    return tensor.device


def run_named(entry: str, which: Build, buffers: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """`run` with its arguments by name, whose shapes the caller has checked; other sizes are 0."""
    run(entry, of_buffers(which, tuple(buffers)), list(buffers.values()), in_order(sizes))


class Prepared:
    """Calls of one entry point whose tensors, all contiguous, need no further check: all that does not change is done once.

    Args:
        names: of the buffers, in the order in which their tensors are given.
        sizes: by name; others are 0.
    """

    def __init__(self, entry: str, which: Build, names: Sequence[str], sizes: Mapping[str, int], device: torch.device) -> None:
        self.empty = array("q", [*in_order(sizes), *[0] * (len(PLACES) - len(SIZES))])
        self.places = [PLACES[name] for name in names]
        self.run: Callable[[Arguments], object]
        if device.type == "cuda":
            self.run = lambda arguments: driver.launch(entry, arguments, which.real, which.store, device)
        else:
            function = getattr(library_of(which), entry)
            self.run = lambda arguments: function(ctypes.byref(arguments))

    def __call__(self, *tensors: Tensor) -> None:
        """Run it; the tensors are on the device that it was prepared for."""
        values = self.empty[:]  # a copy: calls of several threads may run at once
        for place, tensor in zip(self.places, tensors, strict=True):
            values[place] = tensor.data_ptr()
        self.run(Arguments.from_buffer(values))


PANELS = "mb_panels"
AROUND_FORWARD, AROUND_BACKWARD = ("mb_input", "mb_output"), ("mb_output_back", "mb_weight_gradients")
IN_TURN = {
    "mb_slot_steps": ("mb_slot_access", "mb_delta_forward"),
    "mb_slot_steps_back": ("mb_delta_backward", "mb_slot_access_back", "mb_slot_weights_back"),
    "mb_slots_recurrence_back": ("mb_slots_backward", "mb_slot_weights_back"),
}


def schedule(entry: str, arguments: Arguments) -> Iterator[str]:
    """The entry points that make up one: those of `IN_TURN`; with parts, the rows of an element are searched by many blocks between the
    pieces of `forward`; with shared memory, a cluster of blocks steps an element; around the recurrence the products whose buffers are
    given; before all, matrices are put into the panels that are given with them.
    """
    if entry in (PANELS, *AROUND_FORWARD, *AROUND_BACKWARD):  # asked for by itself
        yield entry
        return
    if arguments.weight_hh and (arguments.carry_panels or arguments.carry_back_panels):
        yield PANELS
    if entry in IN_TURN:
        yield from IN_TURN[entry]
        return
    around = AROUND_FORWARD if arguments.y else AROUND_BACKWARD if arguments.grad_y else None
    if around:
        yield around[0]
    if entry == "mb_forward" and arguments.parts > 1:
        for step in range(arguments.steps + 1):
            arguments.step = step
            yield "mb_forward_step"
            if step < arguments.steps:
                yield "mb_search_part"
    else:
        yield entry + driver.CLUSTER if arguments.shared_bytes and entry in ("mb_forward", "mb_backward") else entry
    if around:
        yield around[1]


@functools.lru_cache
def scratch(which: Build, sizes: tuple[tuple[str, int], ...], device: torch.device, entry: str = "mb_scratch") -> tuple[int, int]:
    """Numbers of scratch that a sequence needs for one batch element: two, as its entry point says. A GPU's first call waits for it."""
    with _disable_current_modes():  # under a fake tensor mode too, the numbers are real
        numbers = torch.empty(2, dtype=torch.int64, device=device)
        run_named(entry, which, {"index": numbers}, {**dict(sizes), "batch": 1})
        first, second = numbers.tolist()
    return first, second
