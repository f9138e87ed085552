"""What is recorded of the machine and its software with each run: what must agree for two runs to be comparable."""

import platform

import psutil

from mann_bench.data.conditions import Environment
from mann_bench.machine.control_groups import cpu_quota, memory_limit_bytes
from mann_bench.machine.git import git_commit
from mann_bench.machine.gpus import gpus
from mann_bench.machine.processor import cpu_name, usable_threads
from mann_bench.machine.settings import ALLOCATOR, allocator_library, loaded_libraries, variables, worker_environment
from mann_bench.machine.software import compiler, huge_pages, kernel_build, package_versions


def fingerprint() -> Environment:
    """Describe CPU, memory, GPU, compiler, versions, settings and commit."""
    import torch  # here, so that commands which do not measure start fast

    return {
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "usable_threads": usable_threads(),
        "cpu_quota": cpu_quota(),
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
        "allocator_library": allocator_library(loaded_libraries()),
        "variables": variables(worker_environment(threads=1)),
        "packages": package_versions(),
        "git": git_commit(),
    }
