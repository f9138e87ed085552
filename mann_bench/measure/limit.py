"""The memory limit of a measuring process on the CPU, and the room that recording a pass needs beside it."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from mann_bench.data.units import format_bytes

STATUS = Path("/proc/self/status")


def data_bytes() -> int | None:
    """What this process has allocated, as RLIMIT_DATA counts it; None where that is unknown."""
    if not STATUS.is_file():
        return None
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith("VmData"))


def limit_data(budget_bytes: int) -> str | None:
    """Let allocations fail that exceed what this process holds now by more than the budget.

    Returns:
        A sentence if a limit was there already that leaves less: it stays.
    """
    held_bytes = data_bytes()
    if held_bytes is None:
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = held_bytes + budget_bytes
    if hard != resource.RLIM_INFINITY and hard < limit:
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        left_bytes = max(0, hard - held_bytes)
        return f"a limit that was there before (ulimit -d) leaves {format_bytes(left_bytes)} of the budget of {format_bytes(budget_bytes)}"
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    return None


@contextlib.contextmanager
def beside_the_limit() -> Iterator[None]:
    """What is allocated inside does not count: neither there nor afterwards, as far as the process keeps it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    before_bytes = data_bytes()
    if soft == resource.RLIM_INFINITY or before_bytes is None:
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    try:
        yield
    finally:
        grown_bytes = max(0, (data_bytes() or 0) - before_bytes)
        limit = soft + grown_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
