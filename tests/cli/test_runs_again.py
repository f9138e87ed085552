"""Commands over folders that exist: what --resume tells of another plan, where reports of several runs go, what a skip means."""

import json
from pathlib import Path

import pytest

from mann_bench.data.axes import SHOWN, axes_of, differing_axes
from mann_bench.data.case import Case
from tests.support.results import make_result

SUITE = """
name = "tiny"
[fixed]
steps = 2
[[sweep]]
models = ["lstm"]
slots = ["4"]
[budget]
timing_seconds = 0.01
rounds = 1
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a suite and a finished run of it in `done`."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(SUITE)
    for name in ("a", "b"):
        Path(name).mkdir()
        Path(name, "results.jsonl").write_text(make_result().to_line() + "\n")
    return tmp_path


class TestAxes:
    """Which fields of two plans differ."""

    CASES = tuple(Case(suite="s", model="sam", slots=slots) for slots in (64, 128))

    def test_values_are_those_of_the_cases_in_order(self):
        axes = axes_of(self.CASES, without=("suite",))
        assert (axes["slots"], axes["model"], "suite" in axes) == ([64, 128], ["sam"], False)

    def test_a_phrase_for_each_field_that_differs(self):
        other = [Case(suite="s", model="sam", slots=64, seed=seed) for seed in range(SHOWN + 2)]
        assert differing_axes(axes_of(self.CASES), axes_of(other)) == [
            "slots: there 64, 128, here 64",
            "seed: there 0, here 0, 1, 2, 3, 4, 5 and 2 more",
        ]
        assert differing_axes(axes_of(self.CASES), axes_of(self.CASES[::-1])) == []
        assert differing_axes({"slots": [1]}, {"slots": [1], "later": [2]}) == []


def test_resume_says_which_option_differs(call, folder):
    assert call("run", "tiny.toml", "--out", "run").returncode == 0
    done = call("run", "tiny.toml", "--out", "run", "--resume", "--slots", "4,16", "--seed", "3")
    assert done.returncode == 2
    assert "(slots: there 4, here 4, 16; seed: there 0, here 3); give the same suite and options" in done.stderr
    Path("other.toml").write_text(SUITE.replace("tiny", "other"))
    assert "that run is of suite 'tiny', this command of 'other'" in call("run", "other.toml", "--out", "run", "--resume").stderr
    description = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps({name: value for name, value in description.items() if name != "axes"}))
    assert "plans 2 others; give the same" in call("run", "tiny.toml", "--out", "run", "--resume", "--slots", "4,16").stderr
    Path("run/run.json").write_text(json.dumps({**description, "axes": {"slots": 4}}))
    assert "got a foreign file" in call("run", "tiny.toml", "--out", "run", "--resume").stderr


def test_the_report_of_several_runs_is_in_a_folder_of_its_own(call, folder):
    assert call("report", "a").stdout == "report: a/report/report.html\n"
    before = Path("a/report/report.html").read_bytes()
    both = call("report", "a", "b")
    assert both.returncode == 0, both.stderr
    page = Path(both.stdout.removeprefix("report: ").strip())
    assert page.is_file()
    assert page.parts[0] == "runs"
    assert page.parts[1].startswith("report-")
    assert Path("a/report/report.html").read_bytes() == before


def test_a_report_that_cannot_be_made_leaves_no_folder(call, folder):
    done = call("report", "a", "a")
    assert (done.returncode, done.stderr) == (2, "error: a: expected each run once, got this one twice; leave the second out\n")
    assert list(Path("runs").iterdir()) == []


def test_what_the_plan_skips_is_no_failure(call, folder):
    Path("tiny.toml").write_text(SUITE + 'memory = "1k"\n')
    done = call("run", "tiny.toml", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "1 skipped" in done.stdout
    assert "every case exceeds 1 KiB, the memory budget of a case" in " ".join(done.stderr.split())


class TestShardsOfTraining:
    """What `learn --shard` asks for, before anything runs."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("copy", "--shard", "1/2"), "--shard: expected --memory, as 2G, the same on every host"),
            (("copy", "--shard", "3/2", "--memory", "1G"), "--shard: expected NUMBER/COUNT"),
            (("copy", "--chosen", "x"), "--chosen: expected a study"),
            (("toy", "--chosen", "x"), "--chosen: expected it with --shard"),
            (("toy", "--shard", "1/2", "--memory", "1G", "--chosen", "x"), "--chosen x: expected the folder that `mann-bench merge` made"),
        ],
    )
    def test_bad_usage_leaves_nothing(self, call, folder, options, message):
        done = call("learn", *options, "--out", "out")
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
        assert not Path("out").exists()
