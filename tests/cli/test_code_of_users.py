"""The command imports neither a model nor an index of the user's: their code runs in the processes of cases, which may die of it."""

import json
import os

import pytest

from mann_bench.data.store import load_results
from mann_bench.learn.plan import plan, with_equal_memory
from mann_bench.learn.record import LEARNING, LearningOptions
from mann_bench.run.runner import why_unavailable
from mann_bench.suites.tasks import find_task

OWN = """
import os
from torch import nn
from mann_bench.kernels.index import Exact
with open(os.environ["IMPORTED_BY"], "a") as file:
    print(os.getpid(), file=file)
class Model(nn.Module):
    def __init__(self, input_size, output_size):
        super().__init__()
        self.layer = nn.Linear(input_size, output_size)
    def forward(self, x, state=None):
        return self.layer(x), state
class Index(Exact):
    pass
class Lacking(Exact):
    @classmethod
    def why_not(cls, device="cpu"):
        return "this index needs a library"
"""
SUITE = """
name = "tiny"
[fixed]
steps = 4
[[sweep]]
models = ["own_code:Model"]
slots = ["16"]
[[sweep]]
models = ["sam"]
slots = ["16"]
index = ["own_code:Index", "own_code:Lacking"]
[budget]
case_seconds = 60
timing_seconds = 0.05
"""


@pytest.fixture
def imports_of(call, tmp_path, monkeypatch):
    """Call a command in a folder with a user's code; return its exit code and how many other processes ran that."""
    (tmp_path / "own_code.py").write_text(OWN)
    (tmp_path / "tiny.toml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    imports = tmp_path / "imported_by"
    monkeypatch.setenv("IMPORTED_BY", str(imports))

    def call_command(*arguments):
        imports.write_text("")
        done = call(*arguments)
        pids = imports.read_text().split()
        assert str(os.getpid()) not in pids, done.stderr
        return done.returncode, len(pids)

    return call_command


def test_run_and_what_reads_its_results(imports_of, tmp_path):
    assert imports_of("plan", "tiny.toml") == (0, 1)  # whether the model can be made
    assert imports_of("run", "tiny.toml", "--out", "out") == (0, 4)  # and each case
    statuses = {(result.case.model, result.case.index): (result.status, result.reason) for result in load_results(tmp_path / "out")}
    assert statuses.pop(("sam", "own_code:Lacking")) == ("unavailable", "this index needs a library")
    assert {status for status, _ in statuses.values()} == {"ok"}
    assert imports_of("run", "tiny.toml", "--out", "out", "--resume") == (0, 0)
    for reader in (["report", "out"], ["compare", "out", "out"]):
        assert imports_of(*reader) == (0, 0)


def test_learn(imports_of, tmp_path):
    options = ["--sequences", "64", "--seeds", "1", "--levels", "1-2", "--slots", "16", "--evaluation-seconds", "0.1"]
    for index, code in (("own_code:Index", 0), ("own_code:Lacking", 1)):
        name = index[-5:]
        assert imports_of("learn", "copy", "--models", "sam", "--index", index, *options, "--out", name)[0] == code
        [record] = [json.loads(line) for line in (tmp_path / name / LEARNING.file).read_text().splitlines()]
        assert (record["status"], record["reason"]) == (("unavailable", "this index needs a library") if code else ("budget", None))


def test_a_name_alone_tells_what_is_missing(tmp_path, monkeypatch):
    (tmp_path / "hostile_code.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(tmp_path)
    assert why_unavailable("cpu", "plain", "hostile_code:Index") is None
    task = find_task("copy")
    options = LearningOptions(sequences=100, index="hostile_code:Index")
    cases = plan("copy", task, ["sam", "ntm"], [0], options)
    with pytest.raises(Exception, match="the bytes of sam with index hostile_code:Index are not known before it runs"):
        with_equal_memory(cases, task)
    for name in ("nowhere:Index", ":Index", "__main__:Index"):
        with pytest.raises(Exception, match="--index: there is no module"):
            plan("copy", task, ["sam"], [0], LearningOptions(sequences=100, index=name))
