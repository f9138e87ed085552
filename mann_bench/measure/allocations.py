"""What a GPU's caching allocator gives out and takes back, from the history that it keeps itself.

torch's profiler reports an allocation on a GPU only inside a recorded range of the same thread. It misses what autograd's own thread does
without one, and whatever happens between ranges. The history has every allocation and release of the process, in their order, and the
bytes that were asked for: the `nbytes` of a storage, which the allocator rounds up.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch

# A release counts when it is asked for, as in the allocator's `allocated_bytes`. It is completed later if another stream uses the block.
SIGNS = {"alloc": 1, "free_requested": -1}
QUIET_S = 0.001
Entry = Mapping[str, Any]  # of the history: action, addr, size (bytes asked for), time_us (whole microseconds of Unix time), and more


class Change(NamedTuple):
    """An allocation, or with negative bytes a release. `total_bytes`: what is allocated after it, counted from anywhere."""

    when_ns: int
    address: int
    size_bytes: int
    total_bytes: int


class AllocatorHistory(Protocol):
    """The history of one GPU's allocator. Tests replace it by a fake."""

    def start(self) -> None:
        """Begin an empty history."""

    def read(self) -> Iterable[Entry]:
        """All entries since the start, in their order."""

    def end(self) -> None:
        """Record no more, and drop the entries."""

    def live_blocks(self) -> int:
        """The number of blocks that are allocated now, counted without the history."""


class CudaHistory:
    """That of torch, which is one for all GPUs and all threads. Stacks, which take most of its time, are not recorded."""

    def __init__(self, device: str) -> None:
        index = torch.device(device).index
        self._index = torch.cuda.current_device() if index is None else index

    def start(self) -> None:
        torch.cuda.memory._record_memory_history(enabled="all", context=None, stacks="python", clear_history=True)

    def read(self) -> Iterable[Entry]:
        entries: Iterable[Entry] = torch.cuda.memory._snapshot()["device_traces"][self._index]
        return entries

    def end(self) -> None:
        torch.cuda.memory._record_memory_history(enabled=None)

    def live_blocks(self) -> int:
        return int(torch.cuda.memory_stats(self._index).get("allocation.all.current", 0))


@contextmanager
def allocations(history: AllocatorHistory) -> Iterator[list[Change]]:
    """Record what the allocator does inside; the list is filled when the block ends. The history is ended whatever happens.

    Raises:
        RuntimeError: the history is not whole, because what ran inside has begun or ended one itself.
    """
    changes: list[Change] = []
    try:
        blocks_before = history.live_blocks()
        history.start()
        yield changes
        changes += changes_of(history.read())
        grown, recorded = history.live_blocks() - blocks_before, sum(1 if change.size_bytes > 0 else -1 for change in changes)
        if grown != recorded:
            raise RuntimeError(
                f"the memory of a pass on a GPU is taken from the history of torch's allocator: expected {grown} more blocks as the "
                f"allocator counts them, got {recorded}. Does the model call torch.cuda.memory._record_memory_history? Only one can record"
            )
    finally:
        history.end()


def changes_of(entries: Iterable[Entry]) -> list[Change]:
    """The allocations and releases of a history, in its order and at times that differ.

    Entries of one microsecond are 1 ns apart: a block that is allocated and released within it lives in between, and no order is lost.
    """
    changes: list[Change] = []
    when_ns = total_bytes = 0
    for entry in entries:
        sign = SIGNS.get(entry["action"], 0)
        if sign:
            when_ns = max(entry["time_us"] * 1000, when_ns + 1)
            total_bytes += sign * entry["size"]
            changes.append(Change(when_ns, entry["addr"], sign * entry["size"], total_bytes))
    return changes


def keep_apart(device: str) -> None:
    """Wait between two ranges on a GPU, so that no allocation is taken for one of the other range.

    The history and the profiler read the same clock, but the first is cut to microseconds, and each fits its own line through the
    processor's counter. `Trace.after` is a time in the middle of this pause. Autograd's thread may also release something when
    backward has already returned.
    """
    if device.startswith("cuda"):
        time.sleep(QUIET_S)
