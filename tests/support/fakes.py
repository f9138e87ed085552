"""A processor, a GPU and its sensors that exist in memory only: time passes when a test says so."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from mann_bench.data.result import Sensors
from mann_bench.measure.device import PassTime


class FakeClock:
    """Advances only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleeps(self, seconds: float) -> Callable[[], None]:
        """A pass of known length."""

        def one_pass() -> None:
            self.now += seconds

        return one_pass


class FakeDevice:
    """Runs passes of given lengths in turn, the last for ever; remembers what was asked of it."""

    def __init__(self, passes_s: Iterable[float], readings: Iterable[Sensors] = ()) -> None:
        self.clock = FakeClock()
        self.lengths, self.readings = list(passes_s), list(readings)
        self.ran = self.flushed = 0

    def time(self, one_pass: Callable[[], None]) -> PassTime:
        began = self.clock()
        one_pass()
        self.clock.now += self.lengths[min(self.ran, len(self.lengths) - 1)]
        self.ran += 1
        return PassTime((self.clock() - began) * 1e3)

    def flush_cache(self) -> None:
        self.flushed += 1

    def sensors(self) -> Sensors | None:
        return self.readings.pop(0) if self.readings else None


class FakeCuda:
    """`torch.cuda` as far as the timing core uses it: work is queued, and done when the host waits for it."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.queue_ends = clock, 0.0
        self.recorded_on: list[str | None] = []  # the device of each event; None: the current one

    def launch(self, issue_s: float, runs_s: float) -> None:
        """The host takes `issue_s` to issue work that takes the device `runs_s`."""
        self.clock.now += issue_s
        self.queue_ends = max(self.queue_ends, self.clock.now) + runs_s

    def synchronize(self, name: str) -> None:
        self.clock.now = max(self.clock.now, self.queue_ends)

    def current_stream(self, name: str) -> Any:
        return SimpleNamespace(device=name)

    def get_device_properties(self, name: str) -> Any:
        return SimpleNamespace(uuid="fake", L2_cache_size=50 * 2**20)

    def Event(self, enable_timing: bool) -> Any:
        cuda = self

        class Event:
            at = 0.0

            def record(self, stream: Any = None) -> None:
                cuda.recorded_on.append(stream and stream.device)
                self.at = max(cuda.clock.now, cuda.queue_ends)

            def elapsed_time(self, end: Any) -> float:
                return (end.at - self.at) * 1e3

        return Event()


class FakeNvml:
    """The functions of pynvml that are used, answering from attributes; a None attribute is a sensor that the card lacks."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlClocksEventReasonSwPowerCap = 4
    nvmlClocksEventReasonHwSlowdown = 8
    nvmlClocksEventReasonSyncBoost = 16
    nvmlClocksEventReasonSwThermalSlowdown = 32
    nvmlClocksEventReasonHwThermalSlowdown = 64
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 128

    class NVMLError(Exception):
        pass

    def __init__(self, **values: Any) -> None:
        self.values = {"clock": 1980, "power": 350_000, "temperature": 60, "reasons": 1, "processes": [], **values}
        self.uuid = ""

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.uuid = uuid
        return "handle"

    def _answer(self, name: str) -> Any:
        if self.values[name] is None:
            raise self.NVMLError
        return self.values[name]

    def nvmlDeviceGetPowerUsage(self, handle: str) -> Any:
        return self._answer("power")

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> Any:
        return self._answer("reasons")

    def nvmlDeviceGetClockInfo(self, handle: str, which: int) -> Any:
        return self._answer("clock") if which == self.NVML_CLOCK_SM else 2619

    def nvmlDeviceGetTemperature(self, handle: str, which: int) -> Any:
        return self._answer("temperature")

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> Any:
        return self._answer("processes")
