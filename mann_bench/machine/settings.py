"""Settings that change how fast the same code runs: the allocator and environment variables, ours for workers and others in force."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mann_bench.data.fields import escape

# The same allocator settings for all cases. Large blocks stay with the process, so that no pass pays for mmap and page faults, and are
# backed by huge pages. This halves the dense models' time at a million slots; without it, comparisons would favour sparse models.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "THP_MEM_ALLOC_ENABLE": "1",
}
OTHER_ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc", "hoard", "tbbmalloc_proxy", "snmalloc")  # in the names of their libraries
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # each case sets its own
# What the allocators, torch and the libraries below it read, and our own switch. Others are not recorded: they may hold secrets.
PREFIXES = (
    *("MALLOC_", "GLIBC_TUNABLES", "_RJEM_", "JEMALLOC_", "TCMALLOC_", "MIMALLOC_", "THP_", "PYTHONMALLOC"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "DNNL_", "ONEDNN_"),
    *("ATEN_", "TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "TRITON_"),
    *("CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_TF32_OVERRIDE", "LD_PRELOAD", "MANN_BENCH_CLUSTER"),
)
PLACES = ("_DIR", "_PATH", "_HOME", "_FILE")  # where things lie is no setting; torch itself names a cache when it is first used


def worker_environment(threads: int, path: Sequence[Path] = (), python_path: str | None = None) -> dict[str, str]:
    """Environment variables of a worker process. It imports from the folders of `path` first, and not from the current folder unasked.

    Args:
        python_path: folders that come next, instead of this process's PYTHONPATH.
    """
    folders = os.pathsep.join(filter(None, [*map(str, path), os.environ.get("PYTHONPATH", "") if python_path is None else python_path]))
    code = {"PYTHONSAFEPATH": "1", "PYTHONPATH": folders}  # an empty one counts as none
    limits = dict.fromkeys(THREADS, str(threads))
    return {**os.environ, **ALLOCATOR, **limits, **code, "KINETO_LOG_LEVEL": "5", "PYTHONFAULTHANDLER": "1"}


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Those of a worker's variables that change what it runs, but for our own settings (`ALLOCATOR`, and a case's threads)."""
    chosen = [name for name in sorted(environment) if name.startswith(PREFIXES) and not name.endswith(PLACES)]
    return {escape(name): escape(environment[name]) for name in chosen if name not in (*ALLOCATOR, *THREADS)}


def loaded_libraries(maps: Path = Path("/proc/self/maps")) -> list[str]:
    """Names of the libraries that this process has loaded; workers inherit those that are preloaded."""
    lines = maps.read_text(errors="backslashreplace").splitlines() if maps.is_file() else []
    paths = (line.split(maxsplit=5)[5] for line in lines if "/" in line and ".so" in line)
    return sorted({path.rpartition("/")[2] for path in paths})


def allocator_library(libraries: list[str]) -> str:
    """The library whose `malloc` is in force: one that replaces the C library's, if it is loaded."""
    return next((name for name in libraries if any(other in name for other in OTHER_ALLOCATORS)), "libc")
