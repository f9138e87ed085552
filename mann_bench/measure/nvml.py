"""The sensors of an NVIDIA GPU, read through NVML: clocks, power, temperature, reasons for a slowdown, memory of this process.

Tests pass a fake NVML, so that they need no GPU. A sensor that a card lacks reads as None.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from mann_bench.data.result import Sensors

T = TypeVar("T")

# Reasons for a reduced clock, by NVML's names of their bits. Idleness and clocks set by the user are left out.
SLOWDOWNS = {
    "nvmlClocksEventReasonSwPowerCap": "power cap",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSyncBoost": "sync boost with another GPU",
    "nvmlClocksEventReasonSwThermalSlowdown": "temperature (driver)",
    "nvmlClocksEventReasonHwThermalSlowdown": "temperature (hardware)",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
}


class Nvml:
    """The sensors of one GPU, by the UUID that torch reports for it."""

    def __init__(self, uuid: str, api: Any = None) -> None:
        if api is None:
            import pynvml

            api = pynvml
        self._api = api
        api.nvmlInit()
        self._handle = api.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")

    def read(self) -> Sensors:
        """Read all sensors."""
        api, handle = self._api, self._handle
        power_mw = self._ask(lambda: api.nvmlDeviceGetPowerUsage(handle))
        reasons = self._ask(lambda: api.nvmlDeviceGetCurrentClocksEventReasons(handle)) or 0
        return Sensors(
            sm_clock_mhz=self._ask(lambda: api.nvmlDeviceGetClockInfo(handle, api.NVML_CLOCK_SM)),
            memory_clock_mhz=self._ask(lambda: api.nvmlDeviceGetClockInfo(handle, api.NVML_CLOCK_MEM)),
            power_w=power_mw / 1000 if power_mw is not None else None,
            temperature_c=self._ask(lambda: api.nvmlDeviceGetTemperature(handle, api.NVML_TEMPERATURE_GPU)),
            slowdowns=[words for name, words in SLOWDOWNS.items() if reasons & getattr(api, name, 0)],
            process_bytes=self.process_bytes(),
        )

    def process_bytes(self) -> int | None:
        """GPU memory of this process as the driver counts it, CUDA context included; None if the driver does not tell (containers)."""
        processes = self._ask(lambda: self._api.nvmlDeviceGetComputeRunningProcesses(self._handle)) or []
        mine = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
        return int(mine[0]) if mine and mine[0] is not None else None

    def _ask(self, read_sensor: Callable[[], T]) -> T | None:
        try:
            return read_sensor()
        except (self._api.NVMLError, AttributeError):  # the second: an older pynvml lacks the function
            return None
