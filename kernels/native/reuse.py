"""The memory of a large tape, kept for the next pass.

Linux clears each page of new memory before a process may write to it. For the tape of a dense memory that takes as long as whole steps, so
the one released last is used again, as torch's allocator does on a GPU. While a profiler looks on, memory is new: so it sees all of it.
"""

import threading
import weakref

import torch
from torch import Tensor

from mann_bench.kernels.native.call import is_watched
from mann_bench.kernels.native.huge_pages import LEAST_BYTES, on_huge_pages

MOST_SPARE = 2  # times the bytes asked for: what is larger than that is not used


class _Kept:
    """At most one buffer of bytes that no tensor uses. Tensors may be released in any thread, at any point of another's work."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.buffer: Tensor | None = None

    def take(self) -> Tensor | None:
        with self.lock:
            buffer, self.buffer = self.buffer, None
        return buffer

    def give_back(self, buffer: Tensor) -> None:
        with self.lock:
            if self.buffer is None or self.buffer.numel() < buffer.numel():
                self.buffer = buffer


_kept = _Kept()


def empty_tape(like: Tensor, count: int) -> Tensor:
    """Make a tensor [count] of unset numbers of the type of `like`, on its device; its memory is kept when the last user releases it."""
    size_bytes = count * like.element_size()
    if like.device.type != "cpu" or size_bytes < LEAST_BYTES or is_watched():
        return on_huge_pages(like.new_empty(count))
    buffer = _kept.take()
    if buffer is None or not size_bytes <= buffer.numel() <= MOST_SPARE * size_bytes:
        del buffer  # before the new one is made, so that there is room
        buffer = on_huge_pages(torch.empty(size_bytes, dtype=torch.uint8))
    array = buffer.numpy()  # lives as long as the storage of the tensor made of it
    weakref.finalize(array, _kept.give_back, buffer).atexit = False
    return torch.from_numpy(array)[:size_bytes].view(like.dtype)
