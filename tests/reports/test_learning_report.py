"""Conclusions from training runs: right for planted outcomes, complete for awkward runs, and reproducible."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mann_bench.data.units import format_duration
from mann_bench.learn.record import Evaluation
from mann_bench.reports.html.plot_files import PlotFiles
from mann_bench.reports.learning.babi import PAPER_ERRORS
from mann_bench.reports.learning.comparison import ratio
from mann_bench.reports.learning.experiments import Curve, load_experiments
from mann_bench.reports.learning.headline import headline
from mann_bench.reports.learning.selection import select
from mann_bench.reports.learning.sentences import sentences
from mann_bench.reports.learning.tables import tables_of
from mann_bench.reports.pages import write_learning_report, write_reports
from tests.support.learning import fading, instances, make_run, many_runs, questions
from tests.support.pages import outside_urls
from tests.support.results import make_result


@pytest.fixture
def write(tmp_path):
    def write_runs(*runs, name="run"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "learning.jsonl").write_text("".join(run.to_line() + "\n" for run in runs))
        return folder

    return write_runs


def only(folder):
    (experiment,) = load_experiments([folder])
    return experiment


def reached(*sequences, model="sam", limit=1000):
    """A curve whose seeds came to the goal after so many sequences, or None, and take a second for each 100."""
    runs = [make_run(model, seed, sequences=limit) for seed in range(len(sequences))]
    changed = [
        run.model_copy(
            update={
                "sequences_to_goal": count,
                "seconds_to_goal": None if count is None else count / 100,
                "sequences": limit if count is None else count,
            }
        )
        for run, count in zip(runs, sequences, strict=True)
    ]
    return Curve(model, tuple(changed))


def test_seeds_that_did_not_reach_the_goal_count_as_later():
    assert reached(200, 300, 900).to_goal("sequences").value == 300
    some = reached(200, 400, None).to_goal("sequences")
    assert (some.value, some.reached, some.seeds, some.low) == (400, 2, 3, 200)
    assert np.isinf(some.high)
    none = reached(200, None, None).to_goal("sequences")
    assert np.isinf(none.value)
    assert none.limit == 1000
    assert reached(200, 300).to_goal("seconds").value == 2.5


def test_ratios_of_medians_and_their_bounds():
    value, low, high, bound = ratio(reached(400, 500, 600, model="ntm"), reached(200, 250, 300), "sequences") or pytest.fail("no ratio")
    assert (value, bound) == (2, "")
    assert low == pytest.approx(4 / 3)
    assert high == 3
    assert (ratio(reached(None, None, model="ntm"), reached(200, 300), "sequences") or ())[::3] == (4, "at least")
    assert (ratio(reached(200, 300, model="ntm"), reached(None, None), "sequences") or ())[::3] == (0.25, "at most")
    assert ratio(reached(None), reached(None), "sequences") is None


def test_seconds_of_several_hosts_are_not_compared(write):
    runs = [make_run(model, seed) for model in ("sam", "ntm") for seed in range(2)]
    placed = [run.model_copy(update={"host": f"node-{run.case.model}"}) for run in runs]
    sam, ntm = (Curve(model, tuple(run for run in placed if run.case.model == model)) for model in ("sam", "ntm"))
    assert ratio(ntm, sam, "seconds") is None
    assert ratio(ntm, sam, "sequences") is not None
    apart, together = (" ".join(sentences(only(write(*some, name=name)))) for some, name in ((placed, "apart"), (runs, "together")))
    assert "they ran on several hosts, so their times are not compared" in apart
    assert "times its time" not in apart
    assert "times its time" in together


def test_levels_in_the_same_time_are_of_one_host(write):
    grown: dict[str, Any] = {"curriculum": "exponential", "levels": (1, 1 << 10), "half": 1e9}
    runs = [make_run(model, seed, ms=ms, **grown) for model, ms in (("sam", 1.0), ("ntm", 2.0)) for seed in range(2)]
    apart = only(write(*(run.model_copy(update={"host": f"node-{run.case.seed}"}) for run in runs), name="apart"))
    together = only(write(*runs, name="together"))
    assert [line.partition(" of training")[2].partition(",")[0] for line in sentences(apart)[:2]] == [" on node-0", " on node-1"]
    assert headline(apart).count("On node-") == 2
    assert [table.title for table in tables_of(apart)][:2] == ["Curriculum, on node-0", "Curriculum, on node-1"]
    assert "over 2 seeds" not in " ".join(sentences(apart)[:2])
    assert "On " not in headline(together)
    assert tables_of(together)[0].title == "Curriculum"
    assert sentences(together)[0].startswith("Highest level after")
    assert " on node" not in sentences(together)[0]


def test_band_over_seeds_ends_where_the_first_unfinished_seed_does(write):
    short, long = make_run(seed=0, half=1e9, sequences=20_000), make_run(seed=1, half=1e9, sequences=40_000)
    band = only(write(short, long)).curves[0].band("sequences", "loss")
    assert band.x[-1] == 20_000
    assert (band.low <= band.median).all()
    assert (band.median <= band.high).all()
    finished = make_run(seed=2, half=1000)
    assert finished.status == "ok"
    band = only(write(finished, long, name="other")).curves[0].band("sequences", "loss")
    assert band.x[-1] == 40_000
    assert band.low[-1] == pytest.approx(finished.curve[-1].loss)


def test_seeds_are_one_curve_and_settings_of_one_model_are_told_apart(write):
    runs = [make_run(seed=seed, slots=slots) for seed in (0, 1) for slots in (64, 4096)] + [make_run("ntm", slots=128)]
    experiment = only(write(*runs))
    assert [(curve.name, len(curve.runs)) for curve in experiment.curves] == [("sam N 64", 2), ("sam N 4k", 2), ("ntm", 1)]
    apart = load_experiments([write(make_run(goal=0.1), make_run(goal=0.2), make_run(task="copy", levels=(1, 20)), name="other")])
    assert [e.title for e in apart] == [
        "recall, 2 to 6 pairs, batch 8, goal 0.1",
        "recall, 2 to 6 pairs, batch 8, goal 0.2",
        "copy, 1 to 20 pairs, batch 8",
    ]


def test_a_case_stored_twice_counts_once(write):
    again = [write(make_run(), name=name) for name in ("a", "b")]
    (experiment,) = load_experiments(again)
    assert len(experiment.runs) == 1


def test_of_a_run_with_several_limits_the_longest_counts(write):
    short, long = make_run(half=1e9, sequences=20_000), make_run(half=1e9, sequences=40_000)
    for order in ((short, long), (long, short)):
        (shown,) = only(write(*order, name=f"first-{order[0].sequences}")).runs
        assert shown == long


def test_levels_of_a_curriculum_in_the_same_time(write):
    shared: dict[str, Any] = {"curriculum": "exponential", "levels": (1, 4096), "sequences": None}
    slow = [make_run("ntm", seed, half=20_000, ms=10, seconds=600, **shared) for seed in range(3)]
    fast = [make_run("sam", seed, half=20_000, ms=1, seconds=600, **shared) for seed in range(3)]
    experiment = only(write(*slow, *fast))
    levels = {curve.name: curve.levels_at(experiment.common_seconds) for curve in experiment.curves}
    assert experiment.common_seconds == 600
    assert max(levels["ntm"]) <= 16 < 4096 == max(levels["sam"])
    assert any(text.startswith("Highest level after 10 min of training, in pairs: ntm ") for text in sentences(experiment))
    time = experiment.curves[1].to_level(8, "wall_s").value
    assert time == pytest.approx(3 * 20, rel=0.25)


def test_better_than_chance_beyond_the_training(write):
    far = [make_run("sam", seed, evaluations=fading([6, 12, 60], 6, 24, 0.4)) for seed in range(2)]
    near = [make_run("ntm", seed, evaluations=fading([6, 12, 60], 6, 24, 4)) for seed in range(2)]
    (sentence,) = [text for text in sentences(only(write(*far, *near))) if text.startswith("Better than chance")]
    assert "sam up to 60, 10 times its training, the highest tested (16.4 wrong bits, chance 24)" in sentence
    assert re.search(r"ntm up to 12, 2 times its training \(\d", sentence)


def test_one_shot(write):
    runs = [make_run("sam", 0, task="omniglot", levels=(5, 5), answer="class", level_means="characters", evaluations=instances(5, 0.9))]
    experiment = only(write(*runs))
    assert sentences(experiment)[0] == (
        "Of 5 characters never trained on, sam names right 20% at instance 1, 58% at instance 2, 87% at instance 5, 90% at instance 10 "
        "(chance 20%)."
    )
    table = next(table for table in tables_of(experiment) if table.title == "One-shot accuracy")
    assert [cell.text for cell in table.rows[0]][:7] == ["sam", "5", "20%", "58%", "87%", "90%", "20%"]


def test_babi_beside_the_paper(write):
    shared: dict[str, Any] = {"task": "babi", "levels": (1, 1), "answer": "class", "half": 1e6}
    experiment = only(write(make_run("sam", 0, evaluations=questions(0.5), **shared), make_run("own.module:Model", 0, **shared)))
    (table,) = [table for table in tables_of(experiment) if table.title.startswith("bAbI")]
    assert [column.heading for column in table.columns][:4] == ["task", "sam, here", "sam, paper", "commonest answer"]
    assert len(table.rows) == 22
    assert [cell.text for cell in table.rows[16]][0::2] == ["17 positional", "16.0", "dam was read as 0.9"]
    ours = [float(row[1].text) for row in table.rows[:20]]
    assert float(table.rows[20][1].text) == pytest.approx(np.mean(ours), abs=0.1)
    assert "A short run, ended by its limit and not because it had learned: 60,000 training sequences" in table.note
    assert sentences(experiment)[0].endswith("mean of 20 tasks and 1 seed; the paper's best run 4.1%.")


def at_six(error):
    return [Evaluation(level=6, error=error, chance=24, sequences=256), Evaluation(level=60, error=23, chance=24, sequences=256)]


def test_the_best_run_is_chosen_by_validation_and_not_by_the_test(write):
    errors = [(0.9, 2.0), (0.3, 3.0), (0.5, 1.0)]  # of validation and test
    runs = [make_run("sam", seed, validation=v, evaluations=at_six(t)) for seed, (v, t) in enumerate(errors)]
    lone = make_run("ntm", 0, validation=0.1, evaluations=at_six(1))
    old = [make_run("lstm", seed, evaluations=at_six(1)) for seed in range(2)]
    experiment = only(write(*runs, lone, *old))
    (row,) = next(table for table in tables_of(experiment) if table.title == "Best run by validation").rows
    assert [cell.text for cell in row[:-1]] == ["sam", "1", "6", "0.3", "3", "2 ± 1 (3)"]
    expected = "Best run by validation, wrong bits a sequence: sam seed 1, whose test error is 3 (over 3 seeds 2 ± 1)."
    assert sentences(experiment)[-1] == expected
    assert not any("by validation" in text for text in sentences(only(write(lone, *old, name="other"))))


def test_the_best_run_of_a_curriculum_came_furthest(write):
    shared: dict[str, Any] = {"curriculum": "exponential", "levels": (1, 64), "sequences": 60_000}
    far, near = make_run(seed=0, half=1e4, **shared), make_run(seed=1, half=1e6, **shared)
    assert (far.level, near.level) == (64, 1)
    changed = [
        run.model_copy(
            update={
                "validation": Evaluation(level=run.level, error=error, sequences=256),
                "evaluations": [Evaluation(level=run.level, error=error, sequences=256)],
            }
        )
        for run, error in ((far, 5.0), (near, 0.0))
    ]
    best = select(only(write(*changed)).curves[0])
    assert best is not None
    assert (best.run.case.seed, best.test) == (0, 5.0)


def test_babi_has_the_best_run_beside_the_mean(write):
    shared: dict[str, Any] = {"task": "babi", "levels": (1, 1), "answer": "class", "half": 1e6}
    runs = [
        make_run("sam", seed, validation=v, evaluations=questions(scale), **shared)
        for seed, (v, scale) in enumerate([(0.6, 0.3), (0.4, 0.5)])
    ]
    experiment = only(write(*runs))
    (table,) = [table for table in tables_of(experiment) if table.title.startswith("bAbI")]
    assert [column.heading for column in table.columns][:4] == [
        "task",
        "sam, here, best by validation",
        "sam, here, mean of 2",
        "sam, paper",
    ]
    groups = [[e.error or 0.0 for e in run.evaluations if e.group is not None] for run in runs]
    assert float(table.rows[20][1].text) == pytest.approx(100 * np.mean(groups[1]), abs=0.06)
    assert float(table.rows[20][2].text) == pytest.approx(100 * np.mean(groups), abs=0.06)


@pytest.mark.parametrize(
    "folder", sorted((Path(__file__).parents[2] / "docs" / "results").glob("*/learning.jsonl")), ids=lambda path: path.parent.name
)
def test_committed_runs_are_readable(folder):
    assert load_experiments([folder.parent])


def test_the_papers_cells_agree_with_its_printed_means():
    for model in PAPER_ERRORS.models:
        errors = PAPER_ERRORS.of(model)
        assert len(errors) == 20
        assert np.mean(errors) == pytest.approx(PAPER_ERRORS.printed_mean[model], abs=0.07)
        assert sum(error > PAPER_ERRORS.fails_above for error in errors) == PAPER_ERRORS.printed_failed[model]


def test_page_holds_everything(write, tmp_path):
    runs = many_runs()
    folder = write(*runs)
    page = write_learning_report([folder], tmp_path / "out", files=PlotFiles(("svg",))).read_text()
    anchors = re.findall(r'id="case-([0-9a-f]{16})"', page)
    assert sorted(anchors) == sorted(run.case_id for run in runs)
    assert set(re.findall(r'href="#case-([0-9a-f]{16})"', page)) <= set(anchors)
    assert "kernels: no compiler" in page
    assert "Nothing was trained; the reasons are below." in page
    assert outside_urls(page) == []
    plots = {path.stem for path in (tmp_path / "out" / "plots").glob("*.svg")}
    assert plots >= {"loss-time-0", "levels-0", "level-time-1", "errors-time-2", "instances-5-2"}
    assert "errors-time-0" not in plots  # answers are bits
    assert len(list(csv.DictReader((tmp_path / "out" / "runs.csv").read_text().splitlines()))) == len(runs)
    points = list(csv.DictReader((tmp_path / "out" / "curves.csv").read_text().splitlines()))
    assert len(points) == sum(len(run.curve) for run in runs)
    assert "## recall, 2 to 6 pairs, value bits 48, batch 8" in (tmp_path / "out" / "learning.md").read_text()


def test_the_page_is_reproducible(write, tmp_path):
    folder = write(make_run(evaluations=fading([6, 12], 6, 24)), make_run("ntm"))
    first, second = (write_learning_report([folder], tmp_path / name).read_text() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize(
    "runs",
    [
        [make_run()],
        [make_run(status="unavailable", reason="no <compiler>")],
        [make_run(curriculum="exponential", levels=(1, 64), half=1e9)],
        [make_run(evaluations=[fading([6], 6, 24)[0].model_copy(update={"error": None, "reason": "a batch takes more than 60 s"})])],
        [make_run("copy.module:Own", task="own.module:Task", answer="class", evaluations=instances(3, 0.9))],
    ],
    ids=["one", "unavailable", "stuck", "no-error", "own"],
)
def test_awkward_runs_still_give_a_page(write, tmp_path, runs):
    page = write_learning_report([write(*runs)], tmp_path / "out").read_text()
    assert runs[0].case_id in page
    assert "<compiler>" not in page


def test_folders_of_both_kinds(write, tmp_path):
    folder = write(make_run())
    assert [page.name for page in write_reports([folder], tmp_path / "one")] == ["learning.html"]
    (folder / "results.jsonl").write_text(make_result().to_line() + "\n")
    assert [page.name for page in write_reports([folder], tmp_path / "both")] == ["report.html", "learning.html"]


def test_durations():
    assert [format_duration(seconds) for seconds in (0.5, 59, 60, 3599, 3600, 90_000)] == [
        "0.5 s",
        "59 s",
        "1 min",
        "60 min",
        "1 h",
        "25 h",
    ]
