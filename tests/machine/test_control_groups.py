"""Control groups of both versions, in a made-up file tree: the tightest limit from the process's group up to the root holds."""

import pytest

from mann_bench.machine.control_groups import cpu_quota, free_memory_bytes, memory_limit_bytes, oom_kills

GIB = 2**30
NO_LIMIT_1 = "9223372036854771712"  # how version 1 writes that there is none


class Tree:
    """A `/proc` and mounted hierarchies below a folder."""

    def __init__(self, folder):
        self.folder, self.proc = folder, folder / "proc"
        (self.proc / "self").mkdir(parents=True)
        self.mounts = []

    def member_of(self, *lines):
        (self.proc / "self" / "cgroup").write_text("".join(f"{line}\n" for line in lines))
        return self

    def mount(self, kind, name, options="rw", root="/"):
        """Mount a hierarchy, of which the part below `root` is seen."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        self.mounts.append(f"31 24 0:26 {root} {str(place).replace(' ', chr(92) + '040')} rw,nosuid shared:9 - {kind} {kind} {options}\n")
        (self.proc / "self" / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/sda rw\n" + "".join(self.mounts))
        return self

    def write(self, group, **files):
        """Write files of a group; `memory_max` is the file memory.max."""
        folder = self.folder / group
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name.replace("_", ".", 1)).write_text(f"{content}\n")
        return self


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture
def two(tree):
    """Version 2: the process is in /jobs/7."""
    tree.member_of("0::/jobs/7").mount("cgroup2", "unified tree")
    return tree.write("unified tree/jobs/7", memory_max="max", cpu_max="max 100000").write("unified tree/jobs", memory_max="max")


@pytest.fixture
def one(tree):
    """Version 1, two controllers in one hierarchy: the process is in /jobs/7 of each."""
    tree.member_of("7:cpu,cpuacct:/jobs/7", "4:memory:/jobs/7", "0::/").mount("cgroup", "cpu,cpuacct", "rw,cpu,cpuacct")
    tree.mount("cgroup", "memory", "rw,memory").mount("cgroup2", "unified")
    tree.write("memory/jobs/7", **{"memory_limit_in_bytes": NO_LIMIT_1}).write("memory/jobs")
    return tree.write("cpu,cpuacct/jobs/7", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")


@pytest.mark.parametrize("kind", ["one", "two", "tree"])
def test_without_groups_or_limits(kind, request):
    proc = request.getfixturevalue(kind).proc
    assert memory_limit_bytes(proc) is free_memory_bytes(proc) is cpu_quota(proc) is None
    assert oom_kills(proc) == 0


@pytest.mark.parametrize("group", ["jobs/7", "jobs", ""])
@pytest.mark.parametrize("file", ["memory_max", "memory_high"])
def test_memory_limit_of_version_2(two, group, file):
    two.write(f"unified tree/{group}", **{file: 3 * GIB, "memory_current": GIB})
    assert memory_limit_bytes(two.proc) == 3 * GIB
    assert free_memory_bytes(two.proc) == 2 * GIB
    two.write("unified tree/jobs/7", memory_max=2 * GIB)
    assert memory_limit_bytes(two.proc) == 2 * GIB


@pytest.mark.parametrize("group", ["jobs/7", "jobs", ""])
def test_memory_limit_of_version_1(one, group):
    one.write(f"memory/{group}", memory_limit_in_bytes=3 * GIB, memory_usage_in_bytes=GIB)
    assert memory_limit_bytes(one.proc) == 3 * GIB
    assert free_memory_bytes(one.proc) == 2 * GIB


def test_cache_that_can_be_dropped_is_free_in_version_2(two):
    stat = f"anon 7\nactive_file {GIB // 2}\ninactive_file {GIB // 4}\nslab_reclaimable 4096"
    two.write("unified tree/jobs/7", memory_max=2 * GIB, memory_current=GIB, memory_stat=stat)
    assert free_memory_bytes(two.proc) == GIB + GIB // 2 + GIB // 4 + 4096


def test_cache_that_can_be_dropped_is_free_in_version_1(one):
    stat = f"active_file 5\ntotal_active_file {GIB // 2}\ntotal_inactive_file {GIB // 4}"
    one.write("memory/jobs/7", memory_limit_in_bytes=2 * GIB, memory_usage_in_bytes=GIB, memory_stat=stat)
    assert free_memory_bytes(one.proc) == GIB + GIB // 2 + GIB // 4


def test_the_fullest_group_decides(two):
    two.write("unified tree/jobs/7", memory_max=2 * GIB, memory_current=GIB)
    two.write("unified tree/jobs", memory_max=9 * GIB, memory_current=9 * GIB - 7)
    assert memory_limit_bytes(two.proc) == 2 * GIB
    assert free_memory_bytes(two.proc) == 7
    two.write("unified tree/jobs", memory_current=10 * GIB)  # a limit that was lowered
    assert free_memory_bytes(two.proc) == 0


@pytest.mark.parametrize(
    ("own", "of_parent", "quota"),
    [("50000 100000", "max 100000", 0.5), ("max 100000", "150000 100000", 1.5), ("200000 100000", "50000 100000", 0.5)],
)
def test_quota_of_version_2(two, own, of_parent, quota):
    two.write("unified tree/jobs/7", cpu_max=own).write("unified tree/jobs", cpu_max=of_parent)
    assert cpu_quota(two.proc) == quota


def test_quota_of_version_1(one):
    one.write("cpu,cpuacct/jobs", cpu_cfs_quota_us="50000", cpu_cfs_period_us="100000")
    assert cpu_quota(one.proc) == 0.5


def test_a_container_sees_its_group_at_the_top(tree):
    """Without a namespace of its own: the whole path is known, and a part of the hierarchy is mounted."""
    tree.member_of("4:memory:/docker/f00/inner").mount("cgroup", "memory", "rw,memory", root="/docker/f00")
    tree.write("memory/inner", memory_limit_in_bytes=5 * GIB)
    assert memory_limit_bytes(tree.proc) == 5 * GIB
    tree.write("memory", memory_limit_in_bytes=3 * GIB)
    assert memory_limit_bytes(tree.proc) == 3 * GIB


@pytest.mark.parametrize("path", ["/", "/../other", "/elsewhere"])
def test_a_group_outside_of_what_is_mounted_is_seen_as_its_top(tree, path):
    tree.member_of(f"0::{path}").mount("cgroup2", "unified", root="/docker/f00").write("unified", memory_max=GIB)
    assert memory_limit_bytes(tree.proc) == GIB


def test_kills_are_those_of_the_own_group(one):
    (one.proc / "vmstat").write_text("nr_free_pages 7\noom_kill 41\n")
    assert oom_kills(one.proc) == 41  # the only count there is
    one.write("memory", memory_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 9")
    one.write("memory/jobs/7", memory_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2")
    assert oom_kills(one.proc) == 2


def test_kills_of_version_2(two):
    (two.proc / "vmstat").write_text("oom_kill 41\n")
    two.write("unified tree/jobs/7", memory_events="low 0\noom 3\noom_kill 2")
    assert oom_kills(two.proc) == 2


def test_files_that_hold_something_else_are_no_limit(two):
    two.write("unified tree/jobs/7", memory_max="", cpu_max="half", memory_stat="?", memory_current="")
    assert memory_limit_bytes(two.proc) is free_memory_bytes(two.proc) is cpu_quota(two.proc) is None
