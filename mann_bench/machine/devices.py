"""Devices by torch's names: whether a case can run on one, what it is, and how much of its memory is free."""

import psutil

from mann_bench.data.errors import UsageError
from mann_bench.machine import gpus
from mann_bench.machine.control_groups import free_memory_bytes
from mann_bench.machine.processor import cpu_name


def check_device(device: str) -> None:
    """Raise UsageError unless the name is `cpu`, `cuda` or `cuda:N`. Whether that GPU exists is checked when a case runs."""
    kind, colon, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number.isdigit())):
        raise UsageError(f"device: expected cpu, cuda or cuda:N, got {device!r}; `mann-bench doctor` shows what this machine has")


def why_no_device(device: str) -> str | None:
    """Why a case cannot run on a device here, or None."""
    if device == "cpu":
        return None
    import torch  # here, so that commands which do not measure start fast

    if not torch.cuda.is_available():
        return "no NVIDIA GPU that this torch can use; see `mann-bench doctor`"
    number = int(device.partition(":")[2] or 0)
    count = torch.cuda.device_count()
    return None if number < count else f"expected a GPU numbered 0..{count - 1}, got {device}"


def device_name(device: str) -> str:
    """The processor or the GPU behind a torch device name."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return cpu_name()


def free_bytes(device: str) -> int:
    """Free memory of a device: of a GPU as its driver says; on a CPU the available memory of the machine, or of this process's groups."""
    if device.startswith("cuda"):
        return gpus.free_bytes(device)
    available = psutil.virtual_memory().available
    of_groups = free_memory_bytes()
    return available if of_groups is None else min(available, of_groups)
