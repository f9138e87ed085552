"""Pin a measuring process to processors: whatever threads it starts, they share these."""

import os
from collections.abc import Sequence
from pathlib import Path


def pin_to_cpus(threads: int) -> list[int]:
    """Pin this process, and every thread and process it will start, to as many processors as it has threads.

    Returns:
        The processors; empty where a process cannot be pinned.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    cpus = pick_cpus(sorted(os.sched_getaffinity(0)), threads)
    os.sched_setaffinity(0, cpus)
    return cpus


def pick_cpus(usable: Sequence[int], threads: int) -> list[int]:
    """Pick `threads` processors: one of each core before a second of any core; processor 0, which serves most interrupts, last."""
    ordered = [*(cpu for cpu in usable if cpu), *(cpu for cpu in usable if not cpu)]
    first_of_core: list[int] = []
    others: list[int] = []
    cores: set[str] = set()
    for cpu in ordered:
        core = siblings(cpu)
        (others if core in cores else first_of_core).append(cpu)
        cores.add(core)
    return sorted([*first_of_core, *others][:threads])


def siblings(cpu: int) -> str:
    """The processors that share a core with this one, as Linux lists them (`0,64`)."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return path.read_text().strip() if path.is_file() else str(cpu)
