"""The machine and its software: what is recorded with each run, and the environment variables of worker processes."""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from mann_bench.data.errors import UsageError

PACKAGES = ("mann-bench", "torch", "numpy", "pandas", "faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs", "cuda-core", "triton", "nvidia-ml-py")

# The same allocator settings for all cases. Large blocks stay with the process, so that no pass pays for mmap and page faults, and are
# backed by huge pages. This halves the dense models' time at a million slots; without it, comparisons would favour sparse models.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "THP_MEM_ALLOC_ENABLE": "1",
}


def worker_environment(threads: int, path: Sequence[Path] = ()) -> dict[str, str]:
    """Environment variables of a worker process. It imports from the folders of `path` first, and not from the current folder unasked."""
    folders = os.pathsep.join(filter(None, [*map(str, path), os.environ.get("PYTHONPATH", "")]))
    code = {"PYTHONSAFEPATH": "1", **({"PYTHONPATH": folders} if folders else {})}
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {**os.environ, **ALLOCATOR, **limits, **code, "KINETO_LOG_LEVEL": "5", "PYTHONFAULTHANDLER": "1"}


def fingerprint() -> dict[str, Any]:
    """Describe CPU, memory, GPU, compiler, versions and commit: what must agree for two runs to be comparable."""
    import torch  # here, so that commands which do not measure start fast

    return {
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "usable_threads": usable_threads(),
        "ram_bytes": psutil.virtual_memory().total,
        "memory_limit_bytes": memory_limit_bytes(),
        "huge_pages": huge_pages(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "gpus": gpus(),
        "compiler": compiler(),
        "kernel_build": kernel_build(),
        "allocator": ALLOCATOR,
        "packages": {name: version for name in PACKAGES if (version := installed_version(name))},
        "git": git_commit(),
    }


def usable_threads() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """The processor or the GPU behind a torch device name."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return cpu_name()


def gpus() -> list[dict[str, Any]]:
    """Name, UUID, memory and driver of each NVIDIA GPU; empty where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [
            {
                "name": pynvml.nvmlDeviceGetName(handle),
                "uuid": pynvml.nvmlDeviceGetUUID(handle),
                "memory_bytes": int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
                "driver": driver,
            }
            for handle in handles
        ]
    finally:
        pynvml.nvmlShutdown()


def free_bytes(device: str) -> int:
    """Free memory of a device: a CPU's available RAM, a GPU's free memory as its driver says."""
    if not device.startswith("cuda"):
        return psutil.virtual_memory().available
    import pynvml

    pynvml.nvmlInit()
    try:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")  # a number, or a UUID
        name = visible[int(device.partition(":")[2] or 0)] if visible != [""] else device.partition(":")[2] or "0"
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(name)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).free)
    finally:
        pynvml.nvmlShutdown()


def check_device(device: str) -> None:
    """Raise UsageError unless the name is `cpu`, `cuda` or `cuda:N`. Whether that GPU exists is checked when a case runs."""
    kind, colon, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number.isdigit())):
        raise UsageError(f"device: expected cpu, cuda or cuda:N, got {device!r}; `mann-bench doctor` shows what this machine has")


def why_no_device(device: str) -> str | None:
    """Why a case cannot run on a device here, or None."""
    if device == "cpu":
        return None
    import torch

    if not torch.cuda.is_available():
        return "no NVIDIA GPU that this torch can use; see `mann-bench doctor`"
    number = int(device.partition(":")[2] or 0)
    count = torch.cuda.device_count()
    return None if number < count else f"expected a GPU numbered 0..{count - 1}, got {device}"


def compiler() -> str | None:
    """First line of what the C++ compiler says of its version; None without a compiler."""
    from mann_bench.kernels.native import build

    try:
        return _first_line([build.compiler(), "--version"])
    except build.BuildError:
        return None


def kernel_build() -> str | None:
    """Name of the native library in the cache: a hash of source, flags, compiler and processor. None without a compiler."""
    from mann_bench.kernels.native import build

    try:
        return build.library_path(build.flags()).stem
    except build.BuildError:
        return None


def huge_pages() -> str | None:
    """The kernel's setting for transparent huge pages: always, madvise or never."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.is_file():
        return None
    return setting.read_text().partition("[")[2].partition("]")[0]


def memory_limit_bytes() -> int | None:
    """The memory limit of the control group, or None if there is none."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if Path(path).is_file() and (text := Path(path).read_text().strip()).isdigit() and int(text) < 2**60:
            return int(text)
    return None


def installed_version(package: str) -> str | None:
    """A package's version, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_commit(root: Path | None = None) -> dict[str, Any] | None:
    """Commit of a checkout (by default the one this code runs from) and whether it has uncommitted changes; None if it is no checkout."""
    root = root or Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    commit = _first_line(["git", "-C", str(root), "rev-parse", "HEAD"])
    dirty = _first_line(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return {"commit": commit, "dirty": bool(dirty)} if commit else None


def _first_line(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.partition("\n")[0].strip()
