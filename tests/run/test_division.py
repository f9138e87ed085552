"""A suite in shards: whole comparisons, each in one shard, and the same division whatever a host lacks."""

import functools
import json
from pathlib import Path

import pytest

from mann_bench.data.shards import Shard
from mann_bench.data.suite import parse_suite
from mann_bench.run import division, session
from mann_bench.run.division import part_of, shards_within
from mann_bench.run.runner import comparisons

PREDICT = functools.cache(division.predict)
SUITE = """
name = "made-up"
interleave = ["threads"]
[[sweep]]
models = ["lstm", "ntm", "sam", "my_module:Model"]
slots = ["64", "4M"]
mode = ["train", "infer"]
threads = [1, 2]
[[sweep]]
models = ["sam"]
slots = ["64"]
index = ["lsh", "kd-forest", "live"]
"""


@pytest.fixture(autouse=True)
def cheap_predictions(monkeypatch):
    """Predict each case once: a prediction builds a model without numbers, which takes a twentieth of a second."""
    monkeypatch.setattr(division, "predict", PREDICT)


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_comparisons_stay_whole(count):
    suite = parse_suite(SUITE, "made-up.toml")
    whole = [{case.case_id for case in group} for group in comparisons(suite.cases, suite.interleave)]
    parts = [part_of(suite, Shard(number, count)).cases for number in range(1, count + 1)]
    assert sorted(case.case_id for part in parts for case in part) == sorted(case.case_id for case in suite.cases)
    of_parts = [{case.case_id for case in part} for part in parts]
    assert all(sum(not group.isdisjoint(ids) for ids in of_parts) == 1 for group in whole)
    places = {case.case_id: place for place, case in enumerate(suite.cases)}
    assert all([places[case.case_id] for case in part] == sorted(places[case.case_id] for case in part) for part in parts)
    assert part_of(suite, None) is suite


def test_what_a_host_lacks_divides_nothing_otherwise(monkeypatch):
    suite = parse_suite(SUITE, "made-up.toml")
    before = part_of(suite, Shard(1, 5)).cases
    monkeypatch.setattr("mann_bench.run.runner.why_unavailable", lambda *_: "nothing is available here")
    from mann_bench.kernels.index import INDEXES

    for index in INDEXES.values():
        monkeypatch.setattr(index, "why_unavailable", lambda *_: "not here", raising=False)
    assert part_of(suite, Shard(1, 5)).cases == before


class TestCommand:
    """`mann-bench run --shard`, with a runner that measures nothing."""

    SUITE = 'name = "tiny"\n[fixed]\nsteps = 2\n[[sweep]]\nmodels = ["lstm", "ntm"]\nslots = ["8", "16"]\n'

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("tiny.toml").write_text(self.SUITE)
        monkeypatch.setattr(session, "run_suite", lambda suite, folder, announce: iter(map(folder.append, made_up(suite))))

    def test_two_shards_are_the_suite(self, call):
        for number in (1, 2):
            done = call("run", "tiny.toml", "--shard", f"{number}/2", "--out", f"d/{number}")
            assert (done.returncode, f"shard {number}/2: 2 of 4 cases" in done.stderr) == (0, True)
        assert json.loads(Path("d/1/run.json").read_text())["shard"] == {"number": 1, "count": 2}
        assert call("merge", "d/1", "d/2", "--out", "all").returncode == 0
        again = call("run", "tiny.toml", "--out", "all", "--resume")
        assert (again.returncode, "4 of 4 cases are there already" in again.stderr) == (0, True)
        assert "4 cases, none left to run;" in again.stderr
        assert call("run", "tiny.toml", "--shard", "1/2", "--out", "d/1", "--resume").returncode == 0

    def test_a_shard_that_has_nothing_to_do_ends_well(self, call):
        done = call("run", "tiny.toml", "--shard", "3/3", "--out", "d")
        assert (done.returncode, "nothing to do: the suite has fewer comparisons than 3 shards" in done.stderr) == (0, True)

    def test_a_folder_has_one_shard(self, call):
        call("run", "tiny.toml", "--shard", "1/2", "--out", "d")
        before = Path("d/run.json").read_bytes()
        other = call("run", "tiny.toml", "--shard", "2/2", "--out", "d", "--resume")
        assert "that run is shard 1/2 of its plan, this command shard 2/2 of its plan" in other.stderr
        whole = call("run", "tiny.toml", "--out", "d")
        assert "got one with another run, shard 1/2 of its plan; add --resume" in whole.stderr
        assert (other.returncode, whole.returncode, Path("d/run.json").read_bytes()) == (2, 2, before)

    @pytest.mark.parametrize("shard", ["17/16", "0/2", "one"])
    def test_no_shard_leaves_no_folder(self, call, shard):
        done = call("run", "tiny.toml", "--shard", shard, "--out", "d")
        assert (done.returncode, done.stderr.count("\n"), Path("d").exists()) == (2, 1, False)


def made_up(suite):
    """Results of the cases that nothing measured."""
    from tests.support.results import make_result

    for case in suite.cases:
        yield make_result().model_copy(update={"case": case, "case_id": case.case_id})


class TestHours:
    """`plan --hours`: into how many shards."""

    def test_the_fewest_shards_within_the_limit(self):
        assert shards_within([3, 3, 3], 6) == [6, 3]
        assert shards_within([3, 3, 3], 9) == [9]
        assert shards_within([4, 4, 4, 3], 8) == [8, 7]
        assert len(shards_within([5, 5, 5], 9)) == 3  # two would take 10
        assert shards_within([], 5) == [0]

    def test_the_command(self, call, tmp_path):
        (tmp_path / "made-up.toml").write_text(SUITE)
        done = call("plan", tmp_path / "made-up.toml", "--hours", "0.05", "--json")
        facts = json.loads(done.stdout)
        assert (facts["cases"], facts["comparisons"], facts["too_large"]) == (35, 4, 2)
        assert facts["longest_shard_hours"] <= 0.05
        assert facts["shards"] > 1
        assert "shards, the longest about" in call("plan", tmp_path / "made-up.toml", "--hours", "9").stdout

    @pytest.mark.parametrize(
        ("hours", "message"),
        [
            ("0", "--hours: expected a positive number"),
            ("1e-6", "which one comparison takes alone"),
            ("nan", "--hours: expected a positive"),
        ],
    )
    def test_what_cannot_be(self, call, tmp_path, hours, message):
        (tmp_path / "made-up.toml").write_text(SUITE)
        done = call("plan", tmp_path / "made-up.toml", "--hours", hours)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
