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

MOST_SPARE = 1.5  # times the bytes asked for: what is larger than that is not used
MOST_BLOCKS = 16


class _Kept:
    """Blocks of bytes that no tensor uses, the one released last at the end. Tensors may be released at any point of any thread's work."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.blocks: list[Tensor] = []

    def take(self, size_bytes: int) -> Tensor | None:
        """The smallest block that fits. If there is none, sizes have changed, and the others are given up before more is allocated."""
        with self.lock:
            fitting = [block for block in self.blocks if size_bytes <= block.numel() <= MOST_SPARE * size_bytes]
            chosen = min(fitting, key=Tensor.numel, default=None)
            self.blocks = [block for block in self.blocks if block is not chosen] if chosen is not None else []
            return chosen

    def give_back(self, block: Tensor) -> None:
        with self.lock:
            self.blocks = [*self.blocks, block][-MOST_BLOCKS:]


_kept = _Kept()


def unset(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Make a contiguous tensor of unset numbers of the type of `like`, on its device; its memory is kept when its last user releases it."""
    count = math.prod(shape)
    size_bytes = count * like.element_size()
    if like.device.type != "cpu" or size_bytes < LEAST_BYTES or is_watched():
        return on_huge_pages(like.new_empty(shape))
    block = _kept.take(size_bytes)
    if block is None:
        block = on_huge_pages(torch.empty(size_bytes, dtype=torch.uint8))
    array = block.numpy()  # lives as long as the storage of the tensor made of it
    weakref.finalize(array, _kept.give_back, block).atexit = False
    return torch.from_numpy(array)[:size_bytes].view(like.dtype).view(shape)
