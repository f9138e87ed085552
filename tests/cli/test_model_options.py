"""`--option` and `options` of a suite: what the commands show, what they refuse before anything runs, and a run with them."""

import json
from pathlib import Path

import pytest

from mann_bench.cli.console import PlainConsole
from mann_bench.data.store import load_results
from mann_bench.data.suite import load_suite
from mann_bench.reports.data.frame import load_frame
from mann_bench.run.runner import comparisons

MODELS = """
import torch
from torch import nn

class Deep(nn.Module):
    def __init__(self, input_size, output_size, *, width, depth: int = 1):
        super().__init__()
        layers = [nn.Linear(input_size, width), *(nn.Linear(width, width) for _ in range(depth - 1)), nn.Linear(width, output_size)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x, state):
        return self.layers(x), state
"""
SUITE = """
name = "own"
[fixed]
steps = 2
hidden = 8
heads = 2
[[sweep]]
models = ["mine:Deep"]
slots = ["8"]
options = { width = 4, depth = [1, 3] }
[budget]
timing_seconds = 0.01
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with models and a suite of the user's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODELS)
    (tmp_path / "own.toml").write_text(SUITE)
    return tmp_path


def test_plan_shows_options_and_says_what_runs_without(call, monkeypatch):
    monkeypatch.setattr("mann_bench.cli.plan.wide_console", lambda: PlainConsole(width=80))
    done = call("plan", "quick", "--models", "lstm,ntm,sam", "--slots", "64", "--option", "shifts=1,2", "--option", "sam.erase=gated")
    assert done.returncode == 0
    assert done.stderr == "note: lstm and sam have no option 'shifts': run without it\n"
    rows = [line.split()[:3] for line in done.stdout.splitlines() if line.startswith(("lstm", "ntm", "sam"))]
    ntm, sam = [["ntm", "64", f"shifts={shifts}"] for shifts in (1, 2)], ["sam", "64", "erase=gated"]
    assert sorted(rows[1:]) == sorted([*ntm, *ntm, sam, sam, sam])  # on native kernels and on torch; SAM by its hash index, too


@pytest.mark.parametrize("command", [["plan", "quick"], ["run", "quick"], ["profile", "sam"], ["largest", "sam"], ["learn", "copy"]])
@pytest.mark.parametrize(
    ("option", "message"),
    [("ease=1", "option 'ease': "), ("sam.erase=no", "sam: erase: expected one of always, gated, got 'no'")],
)
def test_refused_before_anything_runs(call, tmp_path, monkeypatch, command, option, message):
    monkeypatch.chdir(tmp_path)
    done = call(*command, "--option", option)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_options_of_the_users_model_are_looked_at_by_its_own_process(call, here):
    done = call("plan", "own.toml", "--models", "sam", "--model", "mine:Deep", "--option", "erase=gated", "--option", "depth=two")
    assert done.returncode == 2
    assert (
        "error: mine:Deep: depth: expected a whole number, got two; mine:Deep has no option 'erase': it has width, depth; to "
        in done.stderr
    )
    assert done.stderr.endswith("give an option to another model alone, write its name before it, as sam.erase\n")


def test_a_run(call, here):
    """An argument without a default that is given as an option makes a model possible."""
    done = call("run", "own.toml", "--out", "out", "--json", "--option", "depth=3")
    assert json.loads(done.stdout)["statuses"] == {"ok": 1}, done.stderr
    assert [result.case.title for result in load_results(Path("out"))] == ["mine:Deep depth=3 width=4"]
    assert "mine:Deep depth=3 width=4 N=8 train: " in done.stderr
    assert [*load_frame([Path("out")])["curve"]] == ["mine:Deep depth=3 width=4"]
    again = call("run", "own.toml", "--out", "out", "--resume", "--option", "depth=2")
    assert again.returncode == 2
    assert "(options: there depth=3 width=4, here depth=2 width=4)" in again.stderr


def test_cases_that_differ_in_options_alone_are_timed_in_turn(here):
    cases = load_suite("own.toml").cases
    assert [case.title for case in cases] == ["mine:Deep depth=1 width=4", "mine:Deep depth=3 width=4"]
    assert comparisons(cases) == [cases]


def test_list_options(call):
    done = call("list", "options")
    assert "link_entries=8 of sdnc" in done.stdout
    rows = {row["name"]: row for row in json.loads(call("list", "options", "--json").stdout)}
    assert rows["sam.erase"] | {"what": ""} == {"name": "sam.erase", "default": "always", "expects": "a text", "what": ""}
    assert rows["ntm.shifts"]["what"].startswith("reach of the location shift")
    assert rows["dam.write_heads"]["expects"] == "a whole number or none"
