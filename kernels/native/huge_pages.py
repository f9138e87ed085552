"""Large buffers on huge pages: random accesses to a table of gigabytes then miss the processor's page cache far less often."""

import ctypes
import sys

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

LEAST_BYTES = 4 * 2**20
PAGE = 4096
_ADVICE = 14  # MADV_HUGEPAGE


def on_huge_pages(tensor: Tensor) -> Tensor:
    """Advise Linux to back a new tensor's storage with huge pages, before it is first written; the tensor itself, wherever it lives."""
    size_bytes = tensor.numel() * tensor.element_size()
    if sys.platform == "linux" and tensor.device.type == "cpu" and size_bytes >= LEAST_BYTES and not isinstance(tensor, FakeTensor):
        start = -(-tensor.data_ptr() // PAGE) * PAGE
        size = (tensor.data_ptr() + size_bytes - start) // PAGE * PAGE
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _ADVICE)  # refused: ordinary pages do as well
    return tensor
