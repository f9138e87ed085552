"""The memory of large buffers, kept for the next pass.

Linux clears each page of new memory before a process may write to it. For what a pass over a dense memory takes, that is as long as whole
steps. So memory that is released is used again, as torch's allocator does on a GPU. While a profiler looks on, memory is new: it sees all.
"""

import math
import threading
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from mann_bench.kernels.native.call import is_watched
from mann_bench.kernels.native.huge_pages import LEAST_BYTES, on_huge_pages

MOST_WAIT = 64  # blocks taken since one was released, after which it is given up: those of several passes
MOST_BYTES = 1.25  # times those that were in use at once, in use and kept together


class _Kept:
    """Blocks of bytes that no tensor uses. They may be released at any point of any thread's work."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.blocks: list[tuple[Tensor, int]] = []  # in the order of their release, each with the blocks taken before it
        self.taken = self.used_bytes = self.most_used_bytes = 0

    def take(self, size_bytes: int) -> Tensor | None:
        """A block of this size, or None if there is none and the caller has to make it."""
        with self.lock:
            found = next((entry for entry in self.blocks if entry[0].numel() == size_bytes), None)
            self.blocks = [entry for entry in self.blocks if entry is not found and self.taken - entry[1] < MOST_WAIT]
            self.taken += 1
            self.used_bytes += size_bytes
            self.most_used_bytes = max(self.most_used_bytes, self.used_bytes)
            while self.blocks and self.used_bytes + self.kept_bytes() > MOST_BYTES * self.most_used_bytes:
                del self.blocks[0]
        return found[0] if found else None

    def make(self, size_bytes: int) -> Tensor:
        """A new block, for which all that are kept make room if there is not enough."""
        try:
            return on_huge_pages(torch.empty(size_bytes, dtype=torch.uint8))
        except RuntimeError:
            self.blocks = []
        try:
            return on_huge_pages(torch.empty(size_bytes, dtype=torch.uint8))
        except RuntimeError:
            self.used_bytes -= size_bytes
            raise

    def give_back(self, block: Tensor) -> None:
        with self.lock:
            self.used_bytes -= block.numel()
            self.blocks = [*self.blocks, (block, self.taken)]

    def kept_bytes(self) -> int:
        return sum(block.numel() for block, _ in self.blocks)


_kept = _Kept()


def unset(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Make a contiguous tensor of unset numbers of the type of `like`, on its device; its memory is kept when its last user releases it."""
    count = math.prod(shape)
    size_bytes = count * like.element_size()
    if like.device.type != "cpu" or size_bytes < LEAST_BYTES or is_watched():
        return on_huge_pages(like.new_empty(shape))
    block = _kept.take(size_bytes)
    if block is None:
        block = _kept.make(size_bytes)
    array = block.view(like.dtype).view(*shape).numpy()  # lives as long as the storage of the tensor made of it, which is no view
    weakref.finalize(array, _kept.give_back, block).atexit = False
    return torch.from_numpy(array)
