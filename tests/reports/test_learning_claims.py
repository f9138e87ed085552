"""The paper's claims about learning, judged from made-up training runs with planted outcomes."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from mann_bench.cli.app import app
from mann_bench.reports.claims.claim import load_claims
from mann_bench.reports.claims.judge import NO_RUN, NO_TRAINING, judge_claims
from mann_bench.reports.claims.learned import judge_learning
from mann_bench.reports.learning.experiments import load_experiments
from mann_bench.reports.pages import write_reports
from tests.support.learning import fading, make_run, questions
from tests.support.results import make_result

SEEDS = range(10)
COPY: dict[str, Any] = {"task": "copy", "levels": (1, 20)}
RECALL: dict[str, Any] = {"task": "recall", "levels": (3, 6)}
CURRICULUM: dict[str, Any] = {"sequences": None, "seconds": 3600, "curriculum": "exponential", "levels": (1, 1 << 17), "ms": 6}


@pytest.fixture
def store(tmp_path):
    def make(*runs, name="learned"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"schema": 1, "suite": "learn", "case_ids": [], "environment": {}}))
        (folder / "learning.jsonl").write_text("".join(run.to_line() + "\n" for run in runs))
        return folder

    return make


@pytest.fixture
def judge(store):
    return lambda *runs: judge_learning(load_experiments([store(*runs)]))


def seeds(model, half, **changes):
    return [make_run(model, seed, half=half, **changes) for seed in SEEDS]


@pytest.mark.parametrize(("dam", "verdict"), [(9000, "exceeded"), (4800, "reproduced"), (3600, "not decided"), (1500, "not reproduced")])
def test_as_well_as_the_dense(judge, dam, verdict):
    (judged,) = judge(*seeds("sam", 4000, **COPY), *seeds("dam", dam, **COPY), *seeds("lstm", 4000, **COPY))["learn-copy"]
    assert judged.verdict == verdict
    assert judged.value == pytest.approx(dam / 4000, rel=0.2)
    assert judged.low <= judged.value <= judged.high
    assert len(judged.case_ids) == 20
    assert "dam over sam, sequences until" in judged.how
    assert "The paper: 30 seeds" in " ".join(judged.remarks)


@pytest.mark.parametrize(("dam", "verdict"), [(9000, "reproduced"), (4000, "not decided"), (1500, "not reproduced")])
def test_faster_than_the_dense(judge, dam, verdict):
    verdicts = judge(*seeds("sam", 4000, **RECALL), *seeds("dam", dam, **RECALL))
    assert [judged.verdict for judged in verdicts["learn-recall"]] == [verdict]
    assert set(verdicts) == {"learn-recall"}


@pytest.mark.parametrize(
    ("sam", "ntm", "limit_of", "verdict"),
    [
        (2000, 9000, "ntm", "reproduced"),  # the NTM ended at more than SAM needed
        (9000, 40_000, "ntm", "not decided"),  # ... at fewer
        (40_000, 2000, "sam", "not reproduced"),
        (40_000, 9000, "sam", "not decided"),
    ],
)
def test_a_bound_is_only_used_where_it_tells(judge, sam, ntm, limit_of, verdict):
    limits = {"sam": 200_000, "ntm": 200_000, limit_of: 24_000}
    runs = [run for model, half in (("sam", sam), ("ntm", ntm)) for run in seeds(model, half, sequences=limits[model], **RECALL)]
    (judged,) = judge(*runs)["learn-recall"]
    assert judged.verdict == verdict
    assert f"{limit_of} ended before its goal" in judged.remarks[0]
    assert (judged.low is None) == (limit_of == "sam")
    assert ("train longer" in judged.remarks[1]) == (verdict == "not decided")


def test_few_seeds_decide_nothing(judge):
    runs = [make_run(model, seed, half=half, **RECALL) for model, half in (("sam", 2000), ("dam", 9000)) for seed in range(5)]
    (judged,) = judge(*runs)["learn-recall"]
    assert (judged.verdict, judged.remarks[0][:12]) == ("not decided", "Too few seed")
    assert judged.value == pytest.approx(4.5, rel=0.2)


def test_levels_of_other_set_ups_judge_nothing(judge):
    assert judge(*seeds("sam", 4000, task="recall", levels=(2, 6)), *seeds("dam", 4000, task="recall", levels=(2, 6))) == {}
    assert judge_learning([]) == {}


def test_curriculum_and_generalization(judge):
    runs = [
        make_run("sam", seed, half=60_000, slots=1 << 20, evaluations=fading([512, 1024, 10_240], 1024, 48), **CURRICULUM) for seed in SEEDS
    ]
    verdicts = judge(*runs)
    (level,) = verdicts["learn-curriculum"]
    assert level.verdict == "not reproduced"
    assert level.value == sorted(run.level or 0 for run in runs)[1]
    assert "N 1M" in " ".join(level.remarks)
    (beyond,) = verdicts["learn-generalize"]
    assert (beyond.value, beyond.verdict) == (10_240, "not reproduced")
    assert "the highest level that was tested" in " ".join(beyond.remarks)


@pytest.mark.parametrize(("scale", "verdict"), [(0.04, "exceeded"), (0.9, "not reproduced")])
def test_babi(judge, scale, verdict):
    (judged,) = judge(make_run("sam", task="babi", levels=(1, 1), evaluations=questions(scale), answer="class"))["learn-babi"]
    assert judged.verdict == verdict
    assert judged.value == (0 if verdict == "exceeded" else 20)


def test_folders_of_both_kinds(store, tmp_path):
    """`claims` and `report` judge each claim by the folders it is about, and say what is missing of the others."""
    trained = store(*seeds("sam", 4000, **COPY), *seeds("dam", 4800, **COPY))
    measured = tmp_path / "measured"
    measured.mkdir()
    (measured / "results.jsonl").write_text(make_result("sam").to_line() + "\n")
    (measured / "run.json").write_text(json.dumps({"schema": 1, "suite": "x", "case_ids": [], "environment": {}}))
    for folders in ([trained], [measured, trained]):
        done = CliRunner().invoke(app, ["claims", *map(str, folders), "--json"], catch_exceptions=False)
        verdicts = {claim["id"]: (claim["verdict"], claim["remarks"]) for claim in json.loads(done.stdout)}
        assert verdicts["learn-copy"][0] == "reproduced"
        assert verdicts["learn-babi"] == ("not run", [NO_TRAINING])
        assert verdicts["time-ann"] == ("not run", [NO_RUN])
    pages = write_reports([measured, trained], tmp_path / "out")
    assert [page.name for page in pages] == ["report.html", "learning.html", "claims.html"]
    assert "dam over sam, sequences until" in pages[0].read_text()


def test_every_claim_about_learning_has_a_line():
    assert [judged.claim for judged in judge_claims(None)] == list(load_claims())
