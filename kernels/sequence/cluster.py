"""Whether a cluster of thread blocks steps each batch element on a GPU, with the controller's weights in shared memory.

Kernel text: `csrc/sequence/cluster.h`. A cluster pays as long as the GPU can run those of all elements at once: one that waits for its turn
waits for a whole pass. So the driver is asked how many clusters are resident at once. It can be fewer than multiprocessors / blocks, as the
blocks of a cluster lie in one part of the GPU. The environment variable `MANN_BENCH_CLUSTER` takes the choice away.
"""

import functools
import os
import warnings
from typing import NamedTuple

import torch

from mann_bench.kernels.native import build, cubin, driver
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.sequence.shapes import Sizes

VARIABLE = "MANN_BENCH_CLUSTER"
AUTOMATIC, ONE_BLOCK, CLUSTERS = ("",), ("0", "1"), (str(cubin.CLUSTER_BLOCKS),)  # its values; not set is the first
ENTRIES = ("mb_forward_cluster", "mb_backward_cluster")
ALIGNMENT_BYTES = 16  # of a row in shared memory


class Room(NamedTuple):
    """How many batch elements clusters can step at once on a GPU, and, if that is none, why."""

    elements: int
    reason: str | None = None
    is_fault: bool = False  # the GPU could run clusters, but their kernels or the driver's answer cannot be had


def bytes_of_pass(which: Build, size: Sizes, device: torch.device) -> int:
    """Bytes of shared memory that each block of a cluster has in a pass of these sizes, or 0: one block steps an element."""
    if device.type != "cuda" or asked() in ONE_BLOCK:
        return 0
    return shared_bytes(which, size, cubin.CLUSTER_BLOCKS) if size["batch"] <= room(which, size, device).elements else 0


def asked() -> str:
    """The value of the variable; ValueError if it is none that it can have."""
    value = os.environ.get(VARIABLE, "")
    if value not in (*AUTOMATIC, *ONE_BLOCK, *CLUSTERS):
        raise ValueError(
            f"{VARIABLE}: expected {cubin.CLUSTER_BLOCKS} to ask for clusters, 0 to let one block step an element, or nothing to have "
            f"clusters where they pay, got {value!r}"
        )
    return value


def remarks(which: Build, size: Sizes, device: torch.device) -> list[str]:
    """Say what steps the elements of a pass, where clusters are asked for or a fault keeps them from running."""
    if device.type != "cuda" or (value := asked()) in ONE_BLOCK:
        return []
    found, reason = room(which, size, device), why_not(which, size, device)
    text = f"one block steps an element: {reason}" if reason else f"a cluster steps each element; {found.elements} can run at once"
    if value in CLUSTERS:
        return [f"{VARIABLE}={value}: {text}"]
    return [text] if found.is_fault else []


def why_not(which: Build, size: Sizes, device: torch.device) -> str | None:
    """Return why no cluster steps the elements of a pass on a GPU, or None."""
    elements, reason, _ = room(which, size, device)
    if reason is None and size["batch"] > elements:
        return f"{size['batch']} clusters of {cubin.CLUSTER_BLOCKS} blocks are more than the {elements} that can run at once"
    return reason


def room(which: Build, size: Sizes, device: torch.device) -> Room:
    """How many batch elements of a pass clusters can step at once; a GPU is asked once for each amount of shared memory."""
    index = torch.cuda.current_device() if device.index is None else device.index
    return _room(which.real, which.store, cubin.known(size["width"]), shared_bytes(which, size, cubin.CLUSTER_BLOCKS), index)


@functools.cache
def _room(real: str, store: str, width: int, needed: int, index: int) -> Room:
    """`room` of a build for a word size, with the bytes of shared memory that a block needs.

    Warns:
        RuntimeWarning: a fault keeps clusters from running.
    """
    name = torch.cuda.get_device_properties(index).name
    if not cubin.has_clusters(driver.architecture(index)):
        return Room(0, f"{name} has no clusters of blocks")
    if needed > (most := driver.most_shared_bytes(index)):
        return Room(0, f"{cubin.CLUSTER_BLOCKS} blocks need {needed} bytes of shared memory each, {name} has {most}")
    try:
        return Room(min(driver.resident_clusters(entry, index, real, store, width, needed) for entry in ENTRIES))
    except (build.BuildError, driver.DriverError) as error:
        warnings.warn(f"one block steps an element on the GPU, no cluster: {error}", RuntimeWarning, stacklevel=2)
        return Room(0, str(error), is_fault=True)


def shared_bytes(which: Build, size: Sizes, blocks: int) -> int:
    """Bytes of shared memory a block: the right factor of a product, and its share of the weights of forward or of backward."""
    number_bytes: int = getattr(torch, which.real).itemsize
    hidden, interface, gates = size["hidden"], size["interface_size"], 4 * size["hidden"]
    carry = hidden + size["heads"] * size["width"]

    def padded(count: int) -> int:
        numbers = ALIGNMENT_BYTES // number_bytes
        return -(-count // numbers) * numbers

    def share(count: int) -> int:
        return -(-count // blocks)

    forward = padded(carry) + 4 * share(hidden) * padded(carry) + share(interface) * padded(hidden)
    backward = padded(max(gates, interface)) + share(hidden) * padded(interface) + share(carry) * padded(gates)
    return max(forward, backward) * number_bytes
