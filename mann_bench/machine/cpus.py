"""How many processors a measuring process may use: whatever threads it starts, they share these."""

import os
from collections.abc import Sequence
from pathlib import Path


def hold_to(threads: int) -> list[int]:
    """Pin this process, and every thread and process it will start, to so many processors; returns them, [] where that cannot be done."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    chosen = choose(sorted(os.sched_getaffinity(0)), threads)
    os.sched_setaffinity(0, chosen)
    return chosen


def choose(usable: Sequence[int], threads: int) -> list[int]:
    """One processor a core before two of one core; processor 0, which serves most interrupts, last."""
    in_order = [*(cpu for cpu in usable if cpu), *(cpu for cpu in usable if not cpu)]
    first_of_core: list[int] = []
    others: list[int] = []
    cores: set[str] = set()
    for cpu in in_order:
        core = siblings(cpu)
        (others if core in cores else first_of_core).append(cpu)
        cores.add(core)
    return sorted([*first_of_core, *others][:threads])


def siblings(cpu: int) -> str:
    """The processors that share a core with this one, as the kernel lists them."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return path.read_text().strip() if path.is_file() else str(cpu)
