"""GPUs that NVML knows, does not know, or may not describe; torch is asked where NVML does not answer."""

from types import SimpleNamespace

import pynvml
import pytest
import torch

from mann_bench.machine import gpus

UUIDS = ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-1d4e2b7a-0000-4106-c12f-20bd9faed9f6")
REFUSALS = ("LibraryNotFound", "NoPermission", "NotSupported", "DriverNotLoaded", "FunctionNotFound")
TORCH_FREE = 70 * 2**30


@pytest.fixture
def torch_gpus(monkeypatch):
    """Two GPUs that torch can use."""
    properties = SimpleNamespace(name="H100", uuid="8932f937", total_memory=80 * 2**30)
    for name, value in {
        "is_available": True,
        "device_count": 2,
        "mem_get_info": (TORCH_FREE, 0),
        "get_device_properties": properties,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)


@pytest.fixture
def nvml(monkeypatch):
    """Two GPUs that NVML knows: the n-th has n + 1 bytes free."""

    def by_uuid(name):
        if name == "MIG-1c7":
            return 6
        if name not in UUIDS:
            raise pynvml.NVMLError_NotFound
        return UUIDS.index(name)

    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "550.1",
        "nvmlDeviceGetCount": lambda: len(UUIDS),
        "nvmlDeviceGetHandleByIndex": lambda number: range(len(UUIDS))[number],
        "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlDeviceGetUUID": lambda handle: UUIDS[handle],
        "nvmlDeviceGetName": lambda handle: f"GPU {handle}",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(free=handle + 1, total=100),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def refuse(monkeypatch, function, error):
    def refused(*_):
        raise error

    monkeypatch.setattr(pynvml, function, refused)


@pytest.mark.parametrize(
    ("visible", "device", "free"),
    [
        (None, "cuda", 1),
        (None, "cuda:1", 2),
        ("1", "cuda", 2),
        ("1,0", "cuda:1", 1),
        ("0, 1", "cuda:1", 2),
        (" 1 , 0 ", "cuda:0", 2),
        (f"{UUIDS[1]}, {UUIDS[0]}", "cuda:0", 2),
        ("GPU-1d4e", "cuda:0", 2),  # the first letters are enough for CUDA
        ("MIG-1c7", "cuda:0", 7),
    ],
)
def test_free_memory_by_nvml(nvml, torch_gpus, visible, device, free):
    if visible is not None:
        nvml.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus.free_bytes(device) == free


@pytest.mark.parametrize(
    ("visible", "device"),
    [("", "cuda"), ("-1", "cuda"), ("0", "cuda:1"), ("0,-1,1", "cuda:1"), ("MIG-GPU-8932f937/1/0", "cuda"), ("x", "cuda")],
)
def test_free_memory_of_a_gpu_unknown_to_nvml_comes_from_torch(nvml, torch_gpus, visible, device):
    nvml.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus.free_bytes(device) == TORCH_FREE


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo"])
@pytest.mark.parametrize("name", REFUSALS)
def test_free_memory_where_nvml_refuses(nvml, torch_gpus, function, name):
    refuse(nvml, function, getattr(pynvml, f"NVMLError_{name}")())
    assert gpus.free_bytes("cuda:1") == TORCH_FREE


def test_free_memory_with_an_older_nvml(nvml, torch_gpus):
    nvml.delattr(pynvml, "nvmlDeviceGetMemoryInfo")
    assert gpus.free_bytes("cuda") == TORCH_FREE


@pytest.mark.parametrize("error", [RuntimeError("no CUDA GPUs are available"), AssertionError("not compiled with CUDA enabled")])
def test_unknown_free_memory_is_0(nvml, error):
    refuse(nvml, "nvmlInit", pynvml.NVMLError_LibraryNotFound())
    nvml.setattr(torch.cuda, "mem_get_info", lambda *_: (_ for _ in ()).throw(error))
    assert gpus.free_bytes("cuda") == 0


def test_gpus_by_nvml(nvml):
    assert gpus.gpus() == [{"name": f"GPU {number}", "uuid": UUIDS[number], "memory_bytes": 100, "driver": "550.1"} for number in range(2)]


@pytest.mark.parametrize(
    ("function", "key"), [("nvmlDeviceGetName", "name"), ("nvmlDeviceGetUUID", "uuid"), ("nvmlSystemGetDriverVersion", "driver")]
)
def test_facts_that_nvml_refuses_are_unknown(nvml, function, key):
    refuse(nvml, function, pynvml.NVMLError_NoPermission())
    refuse(nvml, "nvmlDeviceGetMemoryInfo", pynvml.NVMLError_NotSupported())
    assert [(gpu[key], gpu["memory_bytes"]) for gpu in map(dict, gpus.gpus())] == [("unknown", None)] * 2


@pytest.mark.parametrize("name", REFUSALS)
def test_gpus_by_torch_where_nvml_refuses(nvml, torch_gpus, name):
    refuse(nvml, "nvmlInit", getattr(pynvml, f"NVMLError_{name}")())
    assert gpus.gpus() == [{"name": "H100", "uuid": "GPU-8932f937", "memory_bytes": 80 * 2**30, "driver": "unknown"}] * 2


def test_no_gpu_at_all(nvml):
    refuse(nvml, "nvmlInit", pynvml.NVMLError_LibraryNotFound())
    nvml.setattr(torch.cuda, "device_count", lambda: 0)
    assert gpus.gpus() == []
