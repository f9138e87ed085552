"""The processor: its name, and how many of its threads this process may use."""

import math
import os
import platform
import zlib
from pathlib import Path

import psutil

from mann_bench.data.units import parse_size
from mann_bench.machine.control_groups import cpu_quota

NO_CACHE_KNOWN = 64 * 2**20  # bytes

NAMES = ("model name", "Model Name", "cpu model", "cpu")  # x86, LoongArch, MIPS, POWER
PARTS = (
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),  # ARM
    *("mvendorid", "marchid", "uarch", "isa"),  # RISC-V
)


def usable_threads() -> int:
    """Processors that this process may run on at the same time: as many as its mask has and the quota of its control groups pays for."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    quota = cpu_quota()
    return threads if quota is None else max(1, min(threads, math.ceil(quota)))


def last_level_cache_bytes() -> int:
    """Size of processor 0's last-level cache as Linux says; 64 MiB if it does not."""
    sizes = [parse_size(path.read_text()) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max(sizes, default=NO_CACHE_KNOWN)


def cpu_name() -> str:
    """The processor's name as the system gives it, or what identifies one that has no name (ARM, RISC-V)."""
    info = Path("/proc/cpuinfo")
    found = name_from(info.read_text()) if info.is_file() else ""
    return found or platform.processor() or platform.machine()


def name_from(cpuinfo: str) -> str:
    """The name in the text of `/proc/cpuinfo`; empty if it identifies no processor.

    Two ARM processors may differ in nothing but their features, a list as long as a page: its checksum stands for it. Cores of several
    kinds are all named.
    """
    values: dict[str, dict[str, None]] = {}  # of each field, in order, without repetition
    for line in cpuinfo.splitlines():
        field, _, value = line.partition(":")
        values.setdefault(field.strip(), {})[value.strip()] = None
    for field in NAMES:
        if field in values:
            return next(iter(values[field]))
    parts = [f"{field.removeprefix('CPU ')} {'/'.join(values[field])}" for field in PARTS if field in values]
    if "Features" in values:
        parts.append(f"features {zlib.crc32('|'.join(values['Features']).encode()):08x}")
    return f"{platform.machine()}: {', '.join(parts)}" if parts else ""
