"""Names of devices, whether they are there, and their free memory."""

from types import SimpleNamespace

import psutil
import pytest

from mann_bench.data.errors import UsageError
from mann_bench.machine import devices


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cpu:0", "cuda:x", ""])
def test_unknown_device(device):
    with pytest.raises(UsageError, match="expected cpu, cuda or cuda:N"):
        devices.check_device(device)


def test_no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert devices.why_no_device("cpu") is None
    assert "no NVIDIA GPU" in str(devices.why_no_device("cuda"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert devices.why_no_device("cuda:0") is None
    assert "numbered 0..0" in str(devices.why_no_device("cuda:1"))


@pytest.mark.parametrize(("of_groups", "free"), [(None, 2**33), (2**20, 2**20), (2**60, 2**33)])
def test_free_memory_is_the_least_of_the_machines_and_the_groups(monkeypatch, of_groups, free):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**33))
    monkeypatch.setattr(devices, "free_memory_bytes", lambda: of_groups)
    assert devices.free_bytes("cpu") == free
