"""A model of the user's that cannot work is told before a sweep, and what it lacks in words."""

from pathlib import Path

import pytest

from mann_bench.data.options import Options
from mann_bench.data.store import load_results
from mann_bench.run import own_models
from mann_bench.run.own_models import why_not_made
from mann_bench.run.process import SAME_CODE
from mann_bench.run.replies import Failure

CODE = """
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self, input_size, output_size):
        super().__init__()
        self.linear = nn.Linear(input_size, output_size)

    def initial_state(self, batch):  # neither fill nor seed
        return torch.zeros(batch)

    def forward(self, x, state):
        return self.linear(x), state

class Nan(Plain):
    def forward(self, x, state):
        return self.linear(x) * float("nan"), state

class Needy(Plain):
    def __init__(self, input_size, output_size, width, *, depth):
        super().__init__(input_size, output_size)
"""
SUITE = 'name = "own"\n[fixed]\nsteps = 2\n[[sweep]]\nmodels = ["{model}"]\nslots = ["4", "8"]\n[budget]\ntiming_seconds = 0.01\n'


@pytest.fixture
def plan(call, tmp_path, monkeypatch):
    """Call a command with a suite of one model, in the folder that holds its file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("import no_such_package\n")

    def call_with(model, *arguments):
        (tmp_path / "own.toml").write_text(SUITE.format(model=model))
        command, *options = arguments or ["plan"]
        return call(command, "own.toml", *options)

    return call_with


def test_several_models_are_told_apart(plan):
    names = ("mine:Plain", "mine:Absent", "broken:Model", "mine:Needy", "sam", "op:copy")
    found = why_not_made({name: [Options()] for name in names})
    assert list(found) == ["mine:Absent", "broken:Model", "mine:Needy"]
    assert "AttributeError" in found["mine:Absent"]
    assert "No module named 'no_such_package'" in found["broken:Model"]
    assert "with a default, or given as options, got 'width', 'depth'" in found["mine:Needy"]


def test_no_process_for_built_in_models(monkeypatch):
    monkeypatch.setattr(own_models, "WorkerProcess", None)
    assert why_not_made({name: [Options({"erase": "gated"})] for name in ("sam", "index:query")}) == {}


def test_this_process_imports_while_others_look(monkeypatch):
    order = []

    class Slow:
        def __init__(self, *_):
            order.append("start")

        def wait_until_started(self):
            order.append("wait")
            return Failure(status="timeout", reason="slow")

        def quit(self):
            order.append("quit")

    monkeypatch.setattr(own_models, "WorkerProcess", Slow)
    assert why_not_made({"mine:Plain": [Options()]}, meanwhile=lambda: order.append("imports")) == {}
    assert order == ["start", "imports", "wait", "quit"]
    order.clear()
    own_models.look_at([({"mine:Plain": []}, SAME_CODE)] * 2, 1)
    assert order == ["start", "start", "wait", "wait", "quit", "quit"]


def test_plan_and_run_refuse_a_model_that_cannot_be_imported(plan, tmp_path):
    planned = plan("mine:Absent")
    assert planned.returncode == 1
    assert planned.stderr.startswith("error: model 'mine:Absent': expected 'mine:Absent' to be importable")
    assert planned.stderr.endswith("(2 cases)\n")
    done = plan("mine:Absent", "run", "--out", "out")
    assert done.returncode == 2
    assert "to be importable, got AttributeError" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["mine.py:Plain", "folder/mine.py:Plain"])
def test_a_file_instead_of_a_module_is_told_the_module(plan, call, name):
    for done in (plan(name), call("plan", "quick", "--model", name), call("profile", name)):
        assert done.returncode == 2
        assert "got the file" in done.stderr
        assert "with mine:Plain" in done.stderr


def test_a_state_without_fill_and_seed_works_and_says_so_and_nan_is_told(plan):
    done = plan("mine:Plain", "run", "--model", "mine:Plain", "--model", "mine:Nan", "--slots", "4", "--out", "out")
    assert done.returncode == 0, done.stderr
    warnings = {result.case.model: result.warnings for result in load_results(Path("out"))}
    assert any(warning.startswith("initial_state takes no argument fill") for warning in warnings["mine:Plain"])
    assert not any("not finite" in warning for warning in warnings["mine:Plain"])
    assert "the model's output is not finite" in done.stderr
