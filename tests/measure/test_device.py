"""Devices and sensors, without a GPU: host and device times, the cache, NVML."""

import os
from types import SimpleNamespace

import pytest
import torch

from mann_bench.machine.processor import last_level_cache_bytes
from mann_bench.measure.device import Cpu, Cuda, open_device
from mann_bench.measure.nvml import Nvml
from tests.support.fakes import FakeClock, FakeCuda, FakeNvml


@pytest.mark.parametrize(
    ("issue_s", "runs_s", "wall_ms", "device_ms"),
    [(0.001, 0.1, 101, 101), (0.1, 0.001, 101, 101), (0.0, 0.05, 50, 50)],
    ids=["device-bound", "host-bound", "free-launch"],
)
def test_host_and_device_time_of_a_pass(issue_s, runs_s, wall_ms, device_ms):
    clock = FakeClock()
    cuda = FakeCuda(clock)
    device = Cuda("cuda", clock, cuda, FakeNvml())
    cuda.launch(0, 7.0)  # work that was queued before must not count
    taken = device.time(lambda: cuda.launch(issue_s, runs_s))
    assert taken.wall_ms == pytest.approx(wall_ms)
    assert taken.device_ms == pytest.approx(device_ms)
    assert taken.issue_ms == pytest.approx(issue_s * 1e3)


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_events_are_recorded_on_the_gpu_that_is_timed(name):
    """It need not be torch's current one, whose events would say nothing of it."""
    cuda = FakeCuda(FakeClock())
    Cuda(name, cuda.clock, cuda, FakeNvml()).time(lambda: None)
    assert cuda.recorded_on == [name, name]


@pytest.mark.timed
def test_a_sleep_of_known_length_on_the_real_clock():
    import time

    assert 20 <= Cpu().time(lambda: time.sleep(0.02)).wall_ms < 200


def test_flushing_writes_more_than_the_cache():
    device = Cpu()
    device.flush_cache()
    assert device._filler is not None
    assert device._filler.nbytes >= 2 * last_level_cache_bytes() >= 2 * 2**19
    assert int(device._filler.sum()) == 0
    assert isinstance(open_device("cpu"), Cpu)
    assert device.sensors() is None


def test_nvml_reads_what_there_is():
    process = SimpleNamespace(pid=os.getpid(), usedGpuMemory=123)
    api = FakeNvml(reasons=4 | 64 | 1, processes=[SimpleNamespace(pid=-1, usedGpuMemory=9), process], temperature=None)
    sensors = Nvml("1234", api).read()
    assert api.uuid == "GPU-1234"
    assert sensors.sm_clock_mhz == 1980
    assert sensors.memory_clock_mhz == 2619
    assert sensors.power_w == 350
    assert sensors.temperature_c is None
    assert sensors.slowdowns == ["power cap", "temperature (hardware)"]
    assert sensors.process_bytes == 123


def test_nvml_names_exist_in_the_real_library():
    import pynvml

    from mann_bench.measure.nvml import SLOWDOWNS

    for name in [*SLOWDOWNS, "NVML_CLOCK_SM", "NVML_CLOCK_MEM", "NVML_TEMPERATURE_GPU"]:
        assert getattr(pynvml, name) == getattr(FakeNvml, name), name
    for name in [name for name in dir(FakeNvml) if name.startswith("nvml") and "Reason" not in name]:
        assert callable(getattr(pynvml, name)), name


def test_a_gpu_without_sensors():
    sensors = Nvml("GPU-1", FakeNvml(clock=None, power=None, reasons=None, temperature=None, processes=None)).read()
    assert sensors.model_dump() == {
        "sm_clock_mhz": None,
        "memory_clock_mhz": 2619,
        "power_w": None,
        "temperature_c": None,
        "slowdowns": [],
        "process_bytes": None,
    }


def test_torch_has_what_the_fake_stands_for():
    for name in ("Event", "current_stream", "synchronize", "get_device_properties"):
        assert callable(getattr(torch.cuda, name))
