"""The device that a pass runs on: how to time the pass, flush the cache and read the sensors. Tests replace it by fakes."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from mann_bench.data.result import Sensors
from mann_bench.machine.processor import last_level_cache_bytes
from mann_bench.measure.nvml import Nvml

Clock = Callable[[], float]  # seconds, monotonic


class PassTime(NamedTuple):
    """Times of one pass in ms: wall clock; between CUDA events around it; until the host had issued all its work."""

    wall_ms: float
    device_ms: float | None = None
    issue_ms: float | None = None


class Device(Protocol):
    """All that timing needs of a processor."""

    @property
    def clock(self) -> Clock:
        """The clock that time budgets are measured by."""

    def time(self, one_pass: Callable[[], None]) -> PassTime:
        """Run a pass to the end of its work and time it."""

    def flush_cache(self) -> None:
        """Fill the last-level cache with other data."""

    def sensors(self) -> Sensors | None:
        """Read clocks, power and temperature; None if there are no sensors."""


class Cpu:
    """The CPU, where a pass ends when its call returns."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        self._filler: Tensor | None = None

    def time(self, one_pass: Callable[[], None]) -> PassTime:
        began = self.clock()
        one_pass()
        return PassTime((self.clock() - began) * 1e3)

    def flush_cache(self) -> None:
        """Write twice the size of the last-level cache."""
        if self._filler is None:
            self._filler = torch.empty(2 * last_level_cache_bytes(), dtype=torch.uint8)
        self._filler.zero_()

    def sensors(self) -> Sensors | None:
        return None  # a container may not read any


class Cuda:
    """A GPU, where a pass is its work on the current stream. Tests pass fakes for `torch.cuda` and NVML."""

    def __init__(self, name: str, clock: Clock = time.perf_counter, cuda: Any = torch.cuda, nvml: Any = None) -> None:
        self.clock, self._cuda, self._name = clock, cuda, name
        self._properties = cuda.get_device_properties(name)
        self._nvml = nvml if nvml is not None else open_nvml(str(self._properties.uuid))
        self._filler: Tensor | None = None

    def time(self, one_pass: Callable[[], None]) -> PassTime:
        begin, end = self._cuda.Event(enable_timing=True), self._cuda.Event(enable_timing=True)
        stream = self._cuda.current_stream(self._name)  # of this GPU, which need not be the current one
        self._cuda.synchronize(self._name)
        began = self.clock()
        begin.record(stream)
        one_pass()
        end.record(stream)
        issued = self.clock()
        self._cuda.synchronize(self._name)
        ended = self.clock()
        return PassTime((ended - began) * 1e3, begin.elapsed_time(end), (issued - began) * 1e3)

    def flush_cache(self) -> None:
        """Write twice the size of the L2 cache."""
        if self._filler is None:
            self._filler = torch.empty(2 * self._properties.L2_cache_size, dtype=torch.uint8, device=self._name)
        self._filler.zero_()

    def sensors(self) -> Sensors | None:
        return self._nvml.read() if self._nvml is not None else None


def open_device(name: str) -> Device:
    """The device that torch calls `name`."""
    return Cuda(name) if name.startswith("cuda") else Cpu()


def open_nvml(uuid: str) -> Nvml | None:
    """Open NVML for a GPU; None if the driver's library is missing or does not know the GPU."""
    import pynvml

    try:
        return Nvml(uuid)
    except pynvml.NVMLError:
        return None
