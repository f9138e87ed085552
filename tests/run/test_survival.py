"""Memory, disk and time that run out: which results are kept."""

import contextlib
import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mann_bench.data.store import load_results
from mann_bench.run.process import WorkerProcess
from mann_bench.run.replies import Failure, Prepared, Started
from mann_bench.run.worker import is_out_of_memory

MODELS = """
import torch
from torch import nn

class Doubling(nn.Module):
    def __init__(self, input_size, output_size):
        super().__init__()
        self.layer = nn.Linear(input_size, output_size)
    def forward(self, x, state):
        block = torch.ones(2**20)
        while True:
            block = torch.cat([block, block])

class Cheap(Doubling):
    def forward(self, x, state):
        return self.layer(x), None
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    (tmp_path / "hungry.py").write_text(MODELS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepare(worker, model, memory_bytes, **sizes):
    assert worker.wait_until_started() == Started()
    case = {"suite": "s", "model": model, "slots": 8, "steps": 2, **sizes}
    return worker.ask({"do": "prepare", "case": case, "memory_bytes": memory_bytes, "warmup_s": 0.1}, 100, Prepared)


def test_doubling_until_the_budget_is_out_of_memory(models):
    worker = WorkerProcess(1)
    reply = prepare(worker, "hungry:Doubling", 2**29)
    worker.quit()
    assert isinstance(reply, Failure)
    assert reply.status == "oom"
    assert "allocate memory" in reply.reason


def test_a_memory_larger_than_the_budget_is_out_of_memory():
    """What building takes counts, though it is recorded: the rows alone take twice the budget, and a pass nearly nothing."""
    worker = WorkerProcess(1)
    reply = prepare(worker, "sam", 2**26, kernels="torch", slots=2**20, word_size=32, hidden=8)
    worker.quit()
    assert isinstance(reply, Failure)
    assert (reply.status, "allocate memory" in reply.reason) == ("oom", True)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), True),
        (MemoryError(), True),
        (OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), False),
    ],
)
def test_what_is_out_of_memory(error, is_memory):
    assert is_out_of_memory(error) == is_memory


AT_THE_LIMIT = """
import torch
from mann_bench.measure.trace import recording
from mann_bench.run.worker import limit_memory

torch.set_num_threads(2)
limit_memory("cpu", 2**22)  # less than the stack of a thread
torch.ones(2**17).exp()
with recording("cpu"):
    torch.ones(3)
"""


def test_at_the_limit_threads_are_there_already():
    """Neither OpenMP nor torch's profiler survives if a thread cannot be created."""
    done = subprocess.run([sys.executable, "-c", AT_THE_LIMIT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def control_group(limit_bytes):
    """A new control group with so much memory, or a skip with the reason."""
    base = Path("/sys/fs/cgroup/memory") if Path("/sys/fs/cgroup/memory/cgroup.procs").exists() else Path("/sys/fs/cgroup")
    group, limit = base / f"mann-bench-test-{os.getpid()}", "memory.max" if base.name == "cgroup" else "memory.limit_in_bytes"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    try:
        if not (group / limit).exists():
            pytest.skip("the memory controller is not available here")
        (group / limit).write_text(str(limit_bytes))
        yield group
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


DRIVER = """
import os, sys
from pathlib import Path
from mann_bench.run.process import WorkerProcess
from mann_bench.run.replies import Prepared

Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
worker = WorkerProcess(1)
worker.wait_until_started()
case = {"suite": "s", "model": "hungry:Doubling", "slots": 8, "steps": 2}
print(worker.ask({"do": "prepare", "case": case, "memory_bytes": 2**40, "warmup_s": 0.1}, 100, Prepared).model_dump_json())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_doubling_until_the_kernel_kills_is_out_of_memory(models):
    """As in a job, driver and worker are in one group, whose counter records the kill."""
    with control_group(700 * 2**20) as group:
        done = subprocess.run([sys.executable, "-c", DRIVER, str(group)], capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        reply = Failure.model_validate_json(done.stdout)
        assert reply == Failure(status="oom", reason="ended by the kernel's out-of-memory killer")


SUITE = """
name = "cheap"
[fixed]
steps = 2
[[sweep]]
models = ["hungry:Cheap"]
slots = ["8", "16", "32", "64", "128", "256"]
[budget]
timing_seconds = 0.05
"""


@pytest.mark.slow  # a limit on the size of files takes the same way: tests/cli/test_cli.py
@pytest.mark.skipif(sys.platform != "linux", reason="needs mount")
def test_a_full_disk_stops_clearly_and_every_finished_case_is_readable(models):
    disk = models / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20k", "none", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        (models / "cheap.toml").write_text(SUITE)
        (disk / "ballast").write_bytes(bytes(8000))  # leaves room for some of the results, whose lines differ by what was noticed
        command = [sys.executable, "-m", "mann_bench", "run", "cheap.toml", "--out", str(disk / "run")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 1, done.stderr
        assert "No space left on device; free some space" in done.stderr
        assert "what finished is kept" in done.stderr
        kept = load_results(disk / "run")
        assert 1 <= len(kept) < 6
        (disk / "ballast").unlink()
        done = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=200)
        assert load_results(disk / "run")[: len(kept)] == kept
    finally:
        subprocess.run(["umount", disk], check=True)
