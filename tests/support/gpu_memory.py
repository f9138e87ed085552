"""A stand-in for the history of a GPU's allocator: what a test allocates is memory of the CPU, and enters the history as a GPU's would."""

import time
import weakref

import torch


class FakeHistory:
    """As torch's history: one for all threads, cut to microseconds, dropped when it is ended or started anew."""

    def __init__(self):
        self.entries, self.recorded, self.blocks, self.calls = [], False, 0, []

    def start(self):
        self.calls.append("start")
        self.entries, self.recorded = [], True

    def read(self):
        return list(self.entries)

    def end(self):
        self.calls.append("end")
        self.entries, self.recorded = [], False

    def live_blocks(self):
        return self.blocks

    def allocate(self, size_bytes):
        """A tensor whose block is released when Python drops the tensor, in the thread that drops it."""
        tensor = torch.empty(size_bytes // 4)
        block = (tensor.data_ptr(), size_bytes)
        self._enter(1, "alloc", *block)
        weakref.finalize(tensor, self._free, *block)
        return tensor

    def _free(self, address, size_bytes):
        self._enter(-1, "free_requested", address, size_bytes)
        self._enter(0, "free_completed", address, size_bytes)

    def _enter(self, blocks, action, address, size_bytes):
        self.blocks += blocks
        if self.recorded:
            self.entries.append(entry(action, address, size_bytes, time.time_ns() // 1000))


def entry(action, address, size_bytes, time_us):
    """An entry as torch makes it."""
    return {
        "action": action,
        "addr": address,
        "size": size_bytes,
        "stream": 0,
        "time_us": time_us,
        "compile_context": "N/A",
        "user_metadata": "",
    }
