"""Folders joined into one: every record with its host and conditions, whole or not at all; what does not belong together is refused."""

import json
import os
from pathlib import Path

import pytest

from mann_bench.data.conditions import conditions_of
from mann_bench.data.errors import UsageError
from mann_bench.data.merge import merge
from mann_bench.data.store import RESULTS, RunFolder, load_results, load_run
from tests.support.results import make_result

CASES = [make_result(model, slots) for slots in (64, 128) for model in ("sam", "ntm")]
FACTS = {"cpu": "abacus", "torch": "2.13.0", "kernel_build": "k1", "git": {"commit": "abc", "dirty": False}}


def description(shard=None, *, host="node1", cases=CASES, budget=4, **facts):
    """`run.json` of a shard of a run of these cases."""
    part = {"shard": {"number": shard, "count": 2}} if isinstance(shard, int) else {"shard": shard} if shard else {}
    return {
        **part,
        "case_ids": [result.case_id for result in cases],
        "suite": "made-up",
        "host": host,
        "started_at": "2026-01-01T00:00:00+00:00",
        "budget": {"rounds": budget},
        "environment": {**FACTS, **facts},
    }


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Write a run folder with these records, as a host of that name."""

    def make_folder(name, text, *results):
        monkeypatch.setattr("platform.node", lambda: text["host"])
        folder = RunFolder(tmp_path / name, text, resume=False)
        for result in results:
            folder.append(result)
        folder.close()
        return folder.path

    return make_folder


def test_records_keep_host_conditions_and_attempt(make, tmp_path):
    one = make("1", description(1, huge_pages="always"), CASES[2], CASES[3], CASES[3])
    two = make("2", description(2, host="node2"), *CASES[:2])
    merged = merge([one, two], RESULTS, tmp_path / "all")
    results = load_results(tmp_path / "all")
    assert [(r.case.model, r.case.slots, r.host, r.attempt) for r in results] == [
        *(("sam", 64, "node2", 1), ("ntm", 64, "node2", 1)),
        *(("sam", 128, "node1", 1), ("ntm", 128, "node1", 1), ("ntm", 128, "node1", 2)),
    ]
    run = load_run(tmp_path / "all")
    assert [conditions_of(run, r.conditions)["host"] for r in results] == [r.host for r in results]
    assert conditions_of(run, results[2].conditions)["environment"]["huge_pages"] == "always"
    assert "shard" not in run
    assert [part["shard"] for part in run["merged"]] == [{"number": 1, "count": 2}, {"number": 2, "count": 2}]
    assert (merged.hosts, merged.missing_shards) == (["node2", "node1"], [])


def test_shards_of_one_host_share_their_conditions(make, tmp_path):
    merge([make("1", description(1), *CASES[:2]), make("2", description(2), *CASES[2:])], RESULTS, tmp_path / "all")
    assert {result.conditions for result in load_results(tmp_path / "all")} == {0}
    assert "resumed" not in load_run(tmp_path / "all")


def test_a_joined_folder_goes_on_and_is_joined_again(make, tmp_path):
    merged = merge([make("1", description(1), *CASES[:2])], RESULTS, tmp_path / "half")
    assert merged.missing_shards == [2]
    folder = RunFolder(tmp_path / "half", description(), resume=True)
    assert folder.finished == {result.case_id for result in CASES[:2]}
    folder.append(CASES[2])
    folder.close()
    later = merge([tmp_path / "half", make("2", description(2), CASES[3])], RESULTS, tmp_path / "all")
    assert (len(later.records), later.missing_shards) == (4, [])


def test_a_shard_without_cases_is_a_part(make, tmp_path):
    assert len(merge([make("1", description(1), *CASES), make("2", description(2))], RESULTS, tmp_path / "all").records) == 4


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        (description(1), description(1), "got that shard twice"),
        (description(1), description({"number": 1, "count": 3}), "got shard 1/2 of its plan and shard 1/3 of its plan"),
        (description(1), description({"number": 3, "count": 3}), "got shards of 2 and of 3"),
        (description(1), description(2, cases=CASES[:3]), "that run has 4 cases .* the other plans 3 others"),
        (description(1), description(2, torch="2.14.0"), "torch: 2.13.0 and 2.14.0 in .*1 and .*2; .*--allow-different"),
        (description(1), description(2, kernel_build="k2", cpu="loom"), r"kernel_build: k1 and k2 \(their processors differ"),
        (description(1), description(2, git={"commit": "abd", "dirty": False}), "git commit: abc and abd"),
        (description(1), description(2, budget=5), "budget rounds: 4 and 5"),
    ],
)
def test_what_differs_is_refused(make, tmp_path, one, two, message):
    parts = [make("1", one, CASES[0]), make("2", two, CASES[1])]
    with pytest.raises(UsageError, match=message):
        merge(parts, RESULTS, tmp_path / "all")
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]


def test_what_differs_is_joined_if_told_to(make, tmp_path):
    parts = [make("1", description(1), CASES[0]), make("2", description(2, torch="2.14.0"), CASES[1])]
    merged = merge(parts, RESULTS, tmp_path / "all", allow_different=True)
    assert len(merged.differing) == 1
    assert [result.conditions for result in merged.records] == [0, 1]


def test_overlaps_and_folders_that_are_no_parts_are_refused(make, tmp_path):
    one, two = make("1", description(1), CASES[0]), make("2", description(2), CASES[0])
    with pytest.raises(UsageError, match=r"expected each case in one part, got \w+ in .*1 and .*2"):
        merge([one, two], RESULTS, tmp_path / "all")
    with pytest.raises(UsageError, match=r"got .*1 twice"):
        merge([one, one], RESULTS, tmp_path / "all")
    with pytest.raises(UsageError, match=r"expected a run folder with run\.json and results\.jsonl"):
        merge([tmp_path / "none"], RESULTS, tmp_path / "all")
    with pytest.raises(UsageError, match="expected a new or empty folder"):
        merge([one], RESULTS, two)
    folder = RunFolder(one, description(1), resume=True)
    with pytest.raises(UsageError, match="a mann-bench is writing there"):
        merge([one], RESULTS, tmp_path / "all")
    folder.close()
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]


def test_a_full_disk_leaves_nothing(make, tmp_path, monkeypatch):
    one = make("1", description(1), CASES[0])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mann_bench.data.merge.write_atomically", full)
    with pytest.raises(OSError, match="No space") as caught:
        merge([one], RESULTS, tmp_path / "all")
    assert (caught.value.filename, os.listdir(tmp_path)) == (str(tmp_path / "all"), ["1"])


def test_checkpoints_of_training_runs_come_along(make, tmp_path):
    one, two = make("1", description(1), CASES[0]), make("2", description(2), CASES[1])
    for path, text in ((one, "older"), (two, "newer")):
        (path / "checkpoints").mkdir()
        (path / "checkpoints" / "run.pt").write_text(text)
    os.utime(one / "checkpoints" / "run.pt", (1, 1))
    for order in ([one, two], [two, one]):
        out = tmp_path / f"all {order[0].name}"
        merge(order, RESULTS, out)
        assert (out / "checkpoints" / "run.pt").read_text() == "newer"


def test_the_command(call, make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make("1", description(1), *CASES[:2])
    make("2", description(2, host="node2"), *CASES[2:])
    half = call("merge", "1", "--out", "half")
    assert (half.returncode, half.stderr) == (0, "note: shards that are not here: 2\n")
    assert "1 folders, 2 records, 2 of 4 to do" in half.stdout
    assert "--out half --resume" in half.stdout
    both = call("merge", "1", "2", "--out", "all", "--json")
    assert json.loads(both.stdout) == {
        **{"out": "all", "parts": 2, "records": 4, "planned": 4, "missing": 0, "missing_shards": [], "hosts": ["node1", "node2"]}
    }
    assert "numbers of different hosts are not compared" in both.stderr
    Path("3").mkdir()
    Path("3", "learning.jsonl").write_text("")
    assert "got some of `mann-bench run` and some of `learn`" in call("merge", "1", "3", "--out", "x").stderr
    assert call("merge", "1", "2", "--out", "all").returncode == 2
