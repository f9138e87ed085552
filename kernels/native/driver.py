"""Loads the kernels onto a GPU and launches them on torch's current stream, by the CUDA driver's C interface: a block or cluster an item.

A launch waits for nothing and reads nothing back, so that it can be part of a CUDA graph; loading, at the first call, cannot.
"""

import ctypes
import functools
import math
from typing import Any

import torch

from mann_bench.kernels.native import build, cubin
from mann_bench.kernels.native.arguments import Arguments
from mann_bench.kernels.native.headers import entry_points

ALIGNMENT_BYTES = 16
ITEMS = {  # of each entry point, the sizes whose product is how many items it has; on a GPU a batch tile is one element
    f"mb_{name}": tuple(size.removeprefix("a.") for size in items.replace("num_batch_tiles(a)", "a.batch").split(" * "))
    for name, items in entry_points().items()
}
CLUSTER = "_cluster"  # ends the names of kernels that run as clusters; how many blocks these have is part of the kernel
MAX_DYNAMIC_SHARED_BYTES = 8  # CUfunction_attribute; without it a kernel may have 48 KiB


class DriverError(RuntimeError):
    """A call of the CUDA driver failed."""


class LaunchConfig(ctypes.Structure):
    """CUlaunchConfig: how a kernel is launched."""

    _fields_ = (
        *((name, ctypes.c_uint) for name in ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "shared_bytes")),
        *(("stream", ctypes.c_void_p), ("attributes", ctypes.c_void_p), ("num_attributes", ctypes.c_uint)),
    )


@functools.cache
def why_not(real: str = "float32", store: str = "float32", width: int = 32) -> str | None:
    """Why there are no kernels for the current GPU, or None; found out once in a process, torch being asked before any CUDA library."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no NVIDIA GPU or driver"
    try:
        cubin.compile_kernels(architecture(torch.cuda.current_device()), real, store, width)
    except build.BuildError as error:
        return str(error)
    return None


def architecture(device: int) -> str:
    """Of a GPU, as compilers name it: `sm_90`."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def launch(entry: str, arguments: Arguments, real: str, store: str, device: torch.device) -> None:
    """Put one kernel on torch's current stream of the device its arguments live on."""
    cluster = cubin.CLUSTER_BLOCKS if entry.endswith(CLUSTER) else 0
    blocks = arguments.batch * cluster if cluster else num_items(entry, arguments)
    if blocks == 0:
        return
    index = torch.cuda.current_device() if device.index is None else device.index
    aligned = (arguments.memory or 0) % ALIGNMENT_BYTES == 0  # rows of a known width are read four numbers at a time
    width = arguments.width if arguments.width in cubin.KNOWN_WIDTHS and aligned else 0
    kernel = _kernel(entry, index, real, store, width, cluster, bool(arguments.lengths or arguments.counts or arguments.rounded_bytes))
    shared_bytes = arguments.shared_bytes if cluster else 0
    stream = ctypes.c_void_p(torch.cuda.current_stream(index).cuda_stream)
    parameters = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))  # the driver copies what they point to before it returns
    with _Context(index):
        _call("cuLaunchKernel", kernel, blocks, 1, 1, cubin.THREADS, 1, 1, shared_bytes, stream, parameters, None)


def num_items(entry: str, arguments: Arguments) -> int:
    """How many items of work an entry point has."""
    return math.prod(int(getattr(arguments, size)) for size in ITEMS[entry])


def resident_clusters(entry: str, device: int, real: str, store: str, width: int, shared_bytes: int) -> int:
    """How many clusters of a kernel a GPU can run at once, as its driver says. It loads the kernel, and waits for nothing.

    Args:
        width: word size that the kernel is built for, or 0: any.
        shared_bytes: of each block, as it is launched with.
    """
    count, kernel = ctypes.c_int(), _kernel(entry, device, real, store, width, cubin.CLUSTER_BLOCKS)
    config = LaunchConfig(cubin.CLUSTER_BLOCKS, 1, 1, cubin.THREADS, 1, 1, shared_bytes)
    with _Context(device):
        _call("cuOccupancyMaxActiveClusters", ctypes.byref(count), kernel, ctypes.byref(config))
    return count.value


class _Context:
    """torch's context of a device, current inside: a thread of autograd may have none."""

    def __init__(self, device: int) -> None:
        self.handle = _primary_context(device)

    def __enter__(self) -> None:
        _call("cuCtxPushCurrent_v2", self.handle)

    def __exit__(self, *_: object) -> None:
        _call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


@functools.cache
def _primary_context(device: int) -> ctypes.c_void_p:
    number, context = ctypes.c_int(), ctypes.c_void_p()
    _call("cuDeviceGet", ctypes.byref(number), device)
    _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), number)
    return context


@functools.cache
def _kernel(entry: str, device: int, real: str, store: str, width: int, cluster: int, general: bool = False) -> ctypes.c_void_p:
    kernel = ctypes.c_void_p()
    _call("cuModuleGetFunction", ctypes.byref(kernel), _module(device, real, store, width, cluster, general), entry.encode())
    if cluster:
        with _Context(device):
            _call("cuFuncSetAttribute", kernel, MAX_DYNAMIC_SHARED_BYTES, most_shared_bytes(device))
    return kernel


def most_shared_bytes(device: int) -> int:
    """The most shared memory that a block of a GPU may ask for."""
    card: Any = torch.cuda.get_device_properties(device)  # its stubs lack this
    return int(card.shared_memory_per_block_optin)


@functools.cache
def _module(device: int, real: str, store: str, width: int, cluster: int, general: bool) -> ctypes.c_void_p:
    module, image = ctypes.c_void_p(), cubin.compile_kernels(architecture(device), real, store, width, cluster, general=general)
    with _Context(device):
        _call("cuModuleLoadData", ctypes.byref(module), image.read_bytes())
    return module


@functools.cache
def _driver() -> ctypes.CDLL:
    library = ctypes.CDLL("libcuda.so.1")
    if library.cuInit(0) != 0:
        raise DriverError("the CUDA driver does not start: see nvidia-smi")
    return library


def _call(name: str, *arguments: object) -> None:
    function = getattr(_driver(), name, None)
    if function is None:
        raise DriverError(f"{name}: the CUDA driver has no such call; install a newer one")
    code = function(*arguments)
    if code != 0:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(code, ctypes.byref(text))
        raise DriverError(f"{name}: {(text.value or b'error').decode()} ({code})")
