"""The learning page: a short verdict, charts in which no seed hides another, links to other pages, and runs under way."""

import json
import math
import re
from dataclasses import replace
from typing import Any

import pytest

from mann_bench.learn.record import CurvePoint
from mann_bench.learn.under_way import runs_under_way
from mann_bench.reports.learning.charts import MOST_POINTS, make_charts
from mann_bench.reports.learning.experiments import load_experiments
from mann_bench.reports.learning.headline import headline
from mann_bench.reports.pages import write_learning_report, write_reports
from tests.support.browser import CHROMIUM, EVERY_CHART, use_page, use_page_at
from tests.support.learning import fading, make_run, questions
from tests.support.results import make_result
from tests.support.training import make, small_case

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def write(tmp_path):
    def make(*runs):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "learning.jsonl").write_text("".join(run.to_line() + "\n" for run in runs))
        return tmp_path / "run"

    return make


def goal_runs(seeds=6):
    halves = (("sam", 4000), ("ntm", 8000), ("dam", 4100))
    return [make_run(model, seed, half=half, evaluations=fading([2, 4, 12], 6, 24)) for model, half in halves for seed in range(seeds)]


def test_the_verdict_says_who_was_first_and_what_is_decided(write):
    (experiment,) = load_experiments([write(*goal_runs())])
    text = headline(experiment)
    assert re.match(r"Below 0\.02 bits first: (sam|dam), after [\d,]+ sequences\. Decided: ntm needs 2\.?\d* \[", text), text
    assert text.endswith("times as many as sam. Against sam not decided: dam.")


def test_the_verdict_of_a_curriculum_and_of_nothing(write):
    curriculum: dict[str, Any] = {"curriculum": "exponential", "levels": (1, 4096), "sequences": None, "seconds": 60}
    (experiment,) = load_experiments([write(make_run("sam", half=6000, **curriculum), make_run("ntm", half=30000, **curriculum))])
    assert re.match(r"sam comes furthest: level [\d,]+ \(pairs\) after 1 min; then ntm [\d,]+\.", headline(experiment))
    (nothing,) = load_experiments([write(make_run(status="error", reason="why"))])
    assert headline(nothing) == "Nothing was trained."


def test_each_seed_is_a_line_of_its_own_and_the_median_another(write):
    (experiment,) = load_experiments([write(*goal_runs(seeds=2))])
    rows = [row for row in make_charts(experiment, 0)[0].rows if row["of"] == "loss" and row["along"] == "sequences"]
    assert {row["seed"] for row in rows} == {"0", "1", "median"}
    assert all(sum(row["curve"] == "sam" and row["seed"] == seed for row in rows) <= MOST_POINTS for seed in ("0", "1", "median"))
    levels = {chart.key: chart for chart in make_charts(experiment, 0)}["levels-0"].rows
    at_four = sorted(row["x"] for row in levels if row["level"] == 4 and row["curve"] != "chance")
    assert len(set(at_four)) == 3  # ranges stand beside each other
    assert {row["where"] for row in levels if row["level"] == 12} == {"beyond training", ""}


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan])
def test_losses_that_are_no_numbers_and_one_point_give_a_page(write, tmp_path, value):
    """Stored losses are finite; the charts do not rely on it."""
    run = make_run()
    points = [point.model_construct(**{**dict(point), "loss": value, "wall_s": 0.0}) for point in run.curve[:1]]
    experiments = load_experiments([write(run, make_run("ntm"))])
    curves = tuple(replace(curve, runs=(curve.runs[0].model_copy(update={"curve": points}),)) for curve in experiments[0].curves)
    page = write_learning_report([write(run)], tmp_path / "out", [replace(experiments[0], curves=curves)]).read_text()
    assert "Does it learn" in page


def test_pages_about_the_same_runs_link_each_other(write, tmp_path):
    folder = write(*goal_runs(seeds=1))
    (folder / "results.jsonl").write_text(make_result().to_line() + "\n")
    pages = {page.name: page.read_text() for page in write_reports([folder], tmp_path / "out")}
    assert list(pages)[:2] == ["report.html", "learning.html"]
    for name, text in pages.items():
        assert re.findall(r'<a href="(\w+\.html)">', text[: text.index("</nav>")]) == [other for other in pages if other != name]


@pytest.fixture
def checkpointed(tmp_path):
    """A folder with the checkpoint of a run under way, and one that cannot be read."""
    case = small_case()
    trainer = make(case)
    trainer.curve = [CurvePoint(sequences=8, wall_s=1.0, level=1, loss=0.5, errors=1.0)]
    trainer.step, trainer.wall_s = 2, 1.5
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    trainer.save(folder / "checkpoints" / f"{case.run_id}.pt")
    (folder / "checkpoints" / "torn.pt").write_text("half")
    (folder / "learning.jsonl").write_text("")
    (folder / "run.json").write_text(json.dumps({"run_ids": [case.run_id, "another", "torn"], "case_ids": []}))
    return folder, case


def test_runs_under_way_are_shown_and_never_mixed_with_those_that_are_finished(checkpointed, tmp_path):
    folder, case = checkpointed
    (run,), unreadable = runs_under_way(folder, {})
    assert (run.case, run.sequences, run.wall_s, run.curve[0].loss) == (case, 2 * case.batch, 1.5, 0.5)
    assert unreadable == ["torn.pt"]
    page = write_learning_report([folder], tmp_path / "out")
    text = page.read_text()
    assert "No run is finished." in text
    assert "Not finished: 2 under way, 1 not begun." in text
    assert "cannot be read, or are of an older version: torn.pt" in text
    assert "Runs under way" in text
    if CHROMIUM:
        assert use_page(page, EVERY_CHART)["DRAWN"] == ["under-way"]


def test_a_finished_run_is_not_under_way(checkpointed):
    folder, case = checkpointed
    done = make_run().model_copy(update={"case": case, "status": "budget", "sequences": 10**6})
    assert runs_under_way(folder, {case.run_id: done})[0] == []
    assert len(runs_under_way(folder, {case.run_id: done.model_copy(update={"sequences": 1})})[0]) == 1  # it goes on with a larger limit


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_learning_in_a_browser(write, tmp_path):
    curriculum: dict[str, Any] = {"curriculum": "exponential", "levels": (1, 4096), "sequences": None, "seconds": 60}
    runs = [*goal_runs(seeds=2), make_run("sam", **curriculum), make_run("ntm", half=9000, **curriculum)]
    runs.append(make_run("dnc", status="error", reason=EVIL))
    runs.append(make_run("sam", half=1e6, goal=1e-9, levels=(1, 2)))
    page = write_learning_report([write(*runs)], tmp_path / "out")
    assert EVIL not in page.read_text()
    for seen in use_page_at(page, EVERY_CHART, (420, 1400)):
        assert seen["DRAWN"] == ["training-0", "goal-0", "levels-0", "training-1", "training-2"]
        assert (all(seen["MARKS"]), seen["TIPS"]) == (True, 5)
        assert seen["HIGH"] < 600  # nothing lies outside of a chart, as a goal far below all losses would
        assert (seen["WIDE"], seen["UNNAMED"], seen["SORTED"]) == (0, 0, "ascending")


def test_a_run_under_way_without_a_point_of_its_curve_or_of_a_model_that_is_gone_gives_a_page(tmp_path):
    case = small_case(model="gone.module:Memory")
    trainer = make(small_case())
    trainer.case = case
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    trainer.save(tmp_path / "run" / "checkpoints" / f"{case.run_id}.pt")
    (tmp_path / "run" / "learning.jsonl").write_text("")
    text = write_learning_report([tmp_path / "run"], tmp_path / "out").read_text()
    assert "gone.module:Memory N 11, seed 0" in text
    assert 'id="under-way"' not in text


def test_equals_come_furthest_together(write):
    curriculum: dict[str, Any] = {"curriculum": "exponential", "levels": (1, 8), "sequences": None, "seconds": 60}
    (experiment,) = load_experiments([write(make_run("sam", half=2000, **curriculum), make_run("ntm", half=2000, **curriculum))])
    assert headline(experiment) == "sam and ntm come furthest: level 8 (pairs) after 1 min."


def test_the_verdict_of_babi_speaks_of_every_model(write):
    runs = [make_run(model, task="babi", levels=(1, 1), answer="class", evaluations=questions(1.0)) for model in ("sam", "lstm")]
    (experiment,) = load_experiments([write(*runs)])
    assert re.match(r"sam answers .* wrong, .*\. lstm answers .* wrong, ", headline(experiment))
