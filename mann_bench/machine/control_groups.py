"""Linux control groups: what the groups that a process is in allow it, of both versions.

A process is in one group of each hierarchy, and inside all its parents: the tightest limit holds. `/proc/self/cgroup` names the group,
`/proc/self/mountinfo` where its hierarchy is mounted. A container may see only a part of the hierarchy, with its own group at the top.
Swap is left out: a pass that swaps is no measurement.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc")
NO_LIMIT = 2**60  # version 1 writes the largest multiple of a page instead of "max"


def memory_limit_bytes(proc: Path = PROC) -> int | None:
    """The memory limit of this process's groups; None if there is none."""
    return min((limit for group in groups("memory", proc) if (limit := _memory_limit(group)) is not None), default=None)


def free_memory_bytes(proc: Path = PROC) -> int | None:
    """What the groups' limits leave to this process: limit less usage, without the file cache that can be dropped; None without a limit."""
    left = []
    for group in groups("memory", proc):
        limit = _memory_limit(group)
        usages = [usage for name in ("memory.current", "memory.usage_in_bytes") if (usage := _number(group / name)) is not None]
        if limit is not None and usages:
            stat = _table(group / "memory.stat")
            cache = sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in ("inactive_file", "active_file", "slab_reclaimable"))
            left.append(max(0, limit - usages[0] + cache))
    return min(left, default=None)


def oom_kills(proc: Path = PROC) -> int:
    """Processes that the out-of-memory killer has ended so far in this process's group, or on this machine if the group does not count.

    A group counts those of its processes that are killed, whichever limit was reached: that of a parent or of the machine, too.
    """
    for group in groups("memory", proc):
        for name in ("memory.events", "memory.oom_control"):
            if (kills := _table(group / name).get("oom_kill")) is not None:
                return kills
    return _table(proc / "vmstat").get("oom_kill", 0)


def cpu_quota(proc: Path = PROC) -> float | None:
    """Processors' worth of time that this process's groups allow, 0.5 for half of one; None if there is no quota."""
    return min((quota for group in groups("cpu", proc) if (quota := _cpu_quota(group)) is not None), default=None)


def groups(controller: str, proc: Path = PROC) -> Iterator[Path]:
    """Folders of this process's groups that a controller may act on, from its own to the top of each hierarchy."""
    members = dict(_memberships(_text(proc / "self" / "cgroup")))
    for line in _text(proc / "self" / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        if kind == "cgroup2":
            own = members.get("")
        elif kind == "cgroup" and controller in options.rpartition(" ")[2].split(","):
            own = members.get(controller)
        else:
            continue
        if own is not None:
            root, mounted_at = (_unescaped(field) for field in before.split()[3:5])
            yield from _to_the_top(Path(mounted_at), own, root)


def _memberships(text: str) -> Iterator[tuple[str, str]]:
    """(controller, path of the group) of each line `4:cpu,cpuacct:/jobs/7`; the controller of version 2 is empty."""
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        yield from ((controller, path) for controller in controllers.split(","))


def _to_the_top(mounted_at: Path, own: str, root: str) -> Iterator[Path]:
    """The folder of a group and those of its parents. A group outside the part that is mounted is seen as its top."""
    path = PurePosixPath(own)
    inside = path.relative_to(root) if path.is_relative_to(root) and ".." not in path.parts else PurePosixPath()
    folder = mounted_at / inside
    if not folder.is_dir():
        folder = mounted_at
    yield folder
    while folder != mounted_at:
        folder = folder.parent
        yield folder


def _memory_limit(group: Path) -> int | None:
    limits = (_number(group / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes"))
    return min((limit for limit in limits if limit is not None and limit < NO_LIMIT), default=None)


def _cpu_quota(group: Path) -> float | None:
    quota, _, period = _text(group / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _table(path: Path) -> dict[str, int]:
    """Lines `name number`."""
    pairs = (line.partition(" ") for line in _text(path).splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdigit()}


def _text(path: Path) -> str:
    """Content of a file; empty if it is not there or may not be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _unescaped(field: str) -> str:
    r"""A path of mountinfo, where a blank is written as `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
