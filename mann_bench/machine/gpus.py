"""NVIDIA GPUs as their driver sees them (NVML), or as torch does where NVML is missing, forbidden or knows less than asked."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

from mann_bench.data.conditions import Gpu

T = TypeVar("T")
UNKNOWN = "unknown"


@contextmanager
def nvml() -> Iterator[ModuleType]:
    """Open NVML; its own NVMLError if there is none, or it may not be used."""
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def gpus() -> list[Gpu]:
    """Name, UUID, memory and driver of each GPU, as far as they are told. Empty if there is none."""
    found = _try_nvml(_by_nvml)
    return found if found is not None else _by_torch()


def free_bytes(device: str) -> int:
    """Free memory of the GPU that torch calls `device`; 0 if nothing tells.

    NVML is asked first: torch takes some hundred MiB of the GPU for the answer.
    """
    number = int(device.partition(":")[2] or 0)
    free = _try_nvml(lambda api: int(api.nvmlDeviceGetMemoryInfo(_handle(api, number)).free))
    if free is not None:
        return free
    import torch

    try:
        return int(torch.cuda.mem_get_info(device)[0])
    except (RuntimeError, AssertionError):  # the second: a torch without CUDA
        return 0


def visible_names(variable: str | None) -> list[str] | None:
    """GPUs that CUDA_VISIBLE_DEVICES names, in torch's order: numbers, or UUIDs and their first letters. None: all, by number.

    As CUDA does, the list ends before the first name that can be none, such as -1.
    """
    if variable is None:
        return None
    names = []
    for name in map(str.strip, variable.split(",")):
        if not (name.isdigit() or name.startswith(("GPU-", "MIG-"))):
            break
        names.append(name)
    return names


def _handle(api: ModuleType, number: int) -> object:
    """NVML's handle of a GPU by torch's number of it; NVMLError_NotFound if NVML does not know it."""
    names = visible_names(os.environ.get("CUDA_VISIBLE_DEVICES"))
    if names is None:
        return api.nvmlDeviceGetHandleByIndex(number)
    if number >= len(names):
        raise api.NVMLError_NotFound
    name = names[number]
    if name.isdigit():
        return api.nvmlDeviceGetHandleByIndex(int(name))
    try:
        return api.nvmlDeviceGetHandleByUUID(name)  # of a GPU or a MIG instance
    except api.NVMLError:
        for handle in map(api.nvmlDeviceGetHandleByIndex, range(api.nvmlDeviceGetCount())):
            if str(api.nvmlDeviceGetUUID(handle)).startswith(name):
                return handle
        raise


def _by_nvml(api: ModuleType) -> list[Gpu]:
    def ask(question: Callable[..., T], *about: object) -> T | None:
        try:
            return question(*about)
        except api.NVMLError:
            return None

    found: list[Gpu] = []
    for handle in map(api.nvmlDeviceGetHandleByIndex, range(api.nvmlDeviceGetCount())):
        memory = ask(api.nvmlDeviceGetMemoryInfo, handle)
        found.append(
            {
                "name": ask(api.nvmlDeviceGetName, handle) or UNKNOWN,
                "uuid": ask(api.nvmlDeviceGetUUID, handle) or UNKNOWN,
                "memory_bytes": int(memory.total) if memory else None,
                "driver": ask(api.nvmlSystemGetDriverVersion) or UNKNOWN,
            }
        )
    return found


def _by_torch() -> list[Gpu]:
    import torch

    try:
        properties = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    except (RuntimeError, AssertionError):
        return []
    return [{"name": each.name, "uuid": f"GPU-{each.uuid}", "memory_bytes": each.total_memory, "driver": UNKNOWN} for each in properties]


def _try_nvml(ask: Callable[[ModuleType], T]) -> T | None:
    """The answer of NVML; None if it cannot be opened, lacks a function or gives none."""
    import pynvml

    try:
        with nvml() as api:
            return ask(api)
    except (pynvml.NVMLError, AttributeError):  # the second: an older pynvml lacks the function
        return None
