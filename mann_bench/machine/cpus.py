"""Processors for a measuring process: whatever threads it starts, they share these, and no other mann-bench is given them meanwhile."""

import errno
import itertools
import os
import socket
from collections.abc import Sequence
from pathlib import Path


class ReservedCpus:
    """Processors that this process has reserved among all that run mann-bench on this machine. They are free again when it ends.

    A processor is reserved by binding the socket of its name, of which Linux has one (an abstract address, which leaves no file).

    Args:
        threads: how many processors.
        at_most: how many of them to take if so many are free; by default no more than `threads`.

    Attributes:
        cpus: the processors; none where a process cannot be pinned.
        shared: those of them that another mann-bench has reserved: there were not enough free ones.
    """

    def __init__(self, threads: int, at_most: int = 0) -> None:
        usable = by_preference(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else []
        self._names: list[socket.socket] = []
        free: list[int] = []
        for cpu in usable:
            if len(free) < max(threads, at_most) and self._reserve(cpu):
                free.append(cpu)
        taken = [cpu for cpu in usable if cpu not in free]
        self.shared = sorted(taken[: max(0, threads - len(free))])
        self.cpus = sorted(free + self.shared)

    def _reserve(self, cpu: int) -> bool:
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            name.bind(f"\0mann-bench-cpu-{cpu}")
        except OSError as error:
            name.close()
            return error.errno != errno.EADDRINUSE  # where there are no such names, nothing is known of others
        self._names.append(name)
        return True

    def release(self) -> None:
        """Let others have them."""
        for name in self._names:
            name.close()

    def __enter__(self) -> "ReservedCpus":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def pick_cpus(usable: Sequence[int], threads: int) -> list[int]:
    """Pick `threads` processors of those usable."""
    return sorted(by_preference(usable)[:threads])


def deal(cpus: Sequence[int], threads: Sequence[int]) -> list[list[int]]:
    """Processors for each of several processes with so many threads: different ones as far as there are enough, then the first again."""
    endless = itertools.cycle(by_preference(cpus))
    return [sorted(itertools.islice(endless, min(count, len(cpus)))) for count in threads]


def by_preference(usable: Sequence[int]) -> list[int]:
    """One processor of each core before a second of any core; processor 0, which serves most interrupts, last."""
    ordered = [*(cpu for cpu in usable if cpu), *(cpu for cpu in usable if not cpu)]
    first_of_core: list[int] = []
    others: list[int] = []
    cores: set[str] = set()
    for cpu in ordered:
        core = siblings(cpu)
        (others if core in cores else first_of_core).append(cpu)
        cores.add(core)
    return [*first_of_core, *others]


def siblings(cpu: int) -> str:
    """The processors that share a core with this one, as Linux lists them (`0,64`)."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return path.read_text().strip() if path.is_file() else str(cpu)
