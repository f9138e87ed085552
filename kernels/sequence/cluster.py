"""Whether a cluster of thread blocks steps each batch element on a GPU, with the controller's weights in shared memory.

Off unless the environment variable `MANN_BENCH_CLUSTER` is 4, the number of blocks. Kernel text: `csrc/sequence/cluster.h`.
"""

import functools
import os

import torch

from mann_bench.kernels.native import build, cubin, driver
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.sequence.shapes import Sizes

VARIABLE = "MANN_BENCH_CLUSTER"
ALIGNMENT_BYTES = 16  # of a row in shared memory


def bytes_of_pass(which: Build, size: Sizes, device: torch.device) -> int:
    """Bytes of shared memory that each block of a cluster has in a pass of these sizes, or 0: one block steps an element."""
    if device.type != "cuda" or not is_on() or why_not(which, size, device):
        return 0
    return shared_bytes(which, size, cubin.CLUSTER_BLOCKS)


def is_on() -> bool:
    """Whether clusters are asked for; ValueError if the variable has no value that it can have."""
    asked = os.environ.get(VARIABLE, "")
    if asked not in ("", str(cubin.CLUSTER_BLOCKS)):
        raise ValueError(f"{VARIABLE}: expected {cubin.CLUSTER_BLOCKS}, or nothing to let one block step an element, got {asked!r}")
    return asked != ""


def remarks(which: Build, size: Sizes, device: torch.device) -> list[str]:
    """Say what steps the elements of a pass, where clusters are asked for."""
    if device.type != "cuda" or not is_on():
        return []
    reason = why_not(which, size, device)
    return [f"{VARIABLE}={cubin.CLUSTER_BLOCKS}: {f'one block steps an element: {reason}' if reason else 'a cluster steps each element'}"]


def why_not(which: Build, size: Sizes, device: torch.device) -> str | None:
    """Return why no cluster steps the elements of a pass on a GPU, or None."""
    blocks, needed = cubin.CLUSTER_BLOCKS, shared_bytes(which, size, cubin.CLUSTER_BLOCKS)
    index = torch.cuda.current_device() if device.index is None else device.index
    card = torch.cuda.get_device_properties(index)
    if not cubin.has_clusters(driver.architecture(index)):
        return f"{card.name} has no clusters of blocks"
    if size["batch"] * blocks > card.multi_processor_count:
        return f"{size['batch']} x {blocks} blocks are more than the {card.multi_processor_count} multiprocessors of {card.name}"
    if needed > (most := driver.most_shared_bytes(index)):
        return f"{blocks} blocks need {needed} bytes of shared memory each, {card.name} has {most}"
    return _why_not_compiled(driver.architecture(index), which, size["width"])


@functools.cache
def _why_not_compiled(arch: str, which: Build, width: int) -> str | None:
    """Return why the kernels for clusters cannot be had, or None."""
    try:
        cubin.compile_kernels(arch, which.real, which.store, width, cubin.CLUSTER_BLOCKS)
    except build.BuildError as error:
        return str(error)
    return None


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
