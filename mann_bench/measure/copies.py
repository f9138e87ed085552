"""The yardstick of dense models: how fast this machine copies memory, timed in turn with their passes."""

import torch

from mann_bench.kernels.native.huge_pages import on_huge_pages
from mann_bench.measure.device import Device

MOST_BYTES = 2**28  # of a copied buffer
FEWEST_COPIES = 3


def copy_rates(device: Device, size_bytes: int, seconds: float) -> list[float]:
    """Copy a buffer again and again by torch, on as many threads as torch has; returns the rates, in bytes read and written a second.

    Args:
        size_bytes: of the buffer, at most `MOST_BYTES` are used.
        seconds: after which no further copy begins; `FEWEST_COPIES` are made in any case.

    Returns:
        Nothing if there is no room for two buffers.
    """
    count = min(size_bytes, MOST_BYTES)
    try:
        source, target = (on_huge_pages(torch.empty(count, dtype=torch.uint8)).zero_() for _ in range(2))
    except (MemoryError, RuntimeError):  # torch's allocator raises RuntimeError
        return []

    def copy() -> None:
        target.copy_(source)

    device.time(copy)
    rates: list[float] = []
    began = device.clock()
    while len(rates) < FEWEST_COPIES or device.clock() - began < seconds:
        rates.append(2 * count / device.time(copy).wall_ms * 1e3)
    return rates
