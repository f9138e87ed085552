"""What the page says of a study (grid, choice, runner-up), and comparisons of seeds that did not all reach the goal."""

import json
import re

import pytest

from mann_bench.learn.record import LearningResult
from mann_bench.learn.selection import Candidate, Configuration, StudyRecord
from mann_bench.reports.learning.comparison import decide, log_rank, not_at_goal, ratio
from mann_bench.reports.learning.experiments import Curve, load_experiments
from mann_bench.reports.learning.sentences import sentences
from mann_bench.reports.learning.studies import load_studies
from mann_bench.reports.learning.study_section import study_sentences
from mann_bench.reports.learning.tables import goal_table
from mann_bench.reports.pages import write_learning_report
from tests.support.learning import make_run

TREATED = (
    [6, 6, 6, 7, 10, 13, 16, 22, 23],
    [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35],
)  # remissions of leukaemia in weeks: ended, censored
CONTROL = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def run(model, seed, reached, limit=1000, **changes):
    """A run that reached its goal after so many sequences, or None: not within the limit."""
    made = make_run(model, seed, sequences=limit, **changes)
    return made.model_copy(
        update={
            "status": "ok" if reached else "budget",
            "sequences_to_goal": reached,
            "seconds_to_goal": None if reached is None else reached / 100,
            "sequences": reached or limit,
        }
    )


def curve(*reached, model="sam", limit=1000):
    return Curve(model, tuple(run(model, seed, count, limit) for seed, count in enumerate(reached)))


class Study:
    """A made-up study and its runs: `add` a configuration, then `write` the folder."""

    def __init__(self, by="goal"):
        self.by, self.configurations, self.results = by, [], []

    def add(self, model, chosen_by, reported, arm="", **settings):
        """Add a configuration: for each rate the sequences of the seeds that choose, then those of the reported seeds of the best."""
        candidates = []
        for number, (rate, counts) in enumerate(chosen_by.items()):
            selection = [
                run(model, 1000 + seed, count, learning_rate=rate, validation=1.0, **settings) for seed, count in enumerate(counts)
            ]
            shown = [run(model, seed, count, learning_rate=rate, **settings) for seed, count in enumerate(reported)]
            self.results += [*selection, *(shown if number == 0 else [])]
            ids = [tuple(result.run_id for result in part) for part in (selection, shown)]
            candidates.append(Candidate(values={"learning_rate": rate}, selection=ids[0], reported=ids[1]))
        configuration = Configuration(task="recall", arm=arm, model=model, settings={}, candidates=tuple(candidates))
        self.configurations.append(configuration)

    def write(self, folder, results: list[LearningResult] | None = None):
        record = StudyRecord(name="mine", description="what it asks", by=self.by, configurations=tuple(self.configurations))
        folder.mkdir()
        description = {"schema": 1, "suite": "learning", "case_ids": [], "study": record.model_dump(mode="json"), "study_text": "name"}
        (folder / "run.json").write_text(json.dumps(description))
        lines = [result.to_line() + "\n" for result in (self.results if results is None else results)]
        (folder / "learning.jsonl").write_text("".join(lines))
        return folder


@pytest.fixture
def study(tmp_path):
    made = Study()
    made.add("sam", {3e-3: (200, 220), 1e-3: (300, 330), 1e-2: (None, 100)}, (210, 220, 230, 240, 250, 260))
    made.add("dam", {3e-3: (400, 400), 1e-3: (400, 400), 1e-2: (None, None)}, (410, 420, 430, 440, 450, None))
    made.add("lstm", {1e-2: (None, None), 1e-3: (None, None), 3e-3: (None, None)}, (None,) * 6)
    return made


def test_the_page_names_grid_choice_and_runner_up(study, tmp_path):
    folder = study.write(tmp_path / "run")
    (loaded,) = load_studies([folder])
    assert study_sentences(loaded) == [
        "what it asks",
        "Each model has its own point of the grid, chosen by seeds 1000, 1001, which are not reported: the most seeds at the goal, "
        "then the fewest sequences until there.",
        "Grid of sam, dam: learning_rate 0.003, 0.001, 0.01.",
        "Grid of lstm: learning_rate 0.01, 0.001, 0.003.",
        "recall, sam: learning_rate 0.003 (2 of 2 seeds at the goal after 210 sequences); runner-up learning_rate 0.001 "
        "(2 of 2 seeds at the goal after 315 sequences), 1.5 times as many.",
        "recall, dam: learning_rate 0.003 (2 of 2 seeds at the goal after 400 sequences); runner-up learning_rate 0.001 "
        "(2 of 2 seeds at the goal after 400 sequences), 1 times as many.",
        "recall, lstm: learning_rate 0.01 (0 of 2 seeds at the goal, validation error 1); runner-up learning_rate 0.001 "
        "(0 of 2 seeds at the goal, validation error 1), 1 times as large. "
        "It is the highest learning_rate of the grid: a wider one may hold a better.",
    ]
    page = write_learning_report([folder], tmp_path / "out").read_text()
    anchors = re.findall(r'id="case-([0-9a-f]{16})"', page)
    assert sorted(anchors) == sorted(result.case_id for result in study.results)  # those that chose are listed, too
    assert set(re.findall(r'href="#case-([0-9a-f]{16})"', page)) <= set(anchors)
    for text in ("Study mine", "What mine chose from", "runner-up learning_rate 0.001"):
        assert text in page
    assert "runner-up learning\\_rate 0.001" in (tmp_path / "out" / "learning.md").read_text().replace("learning_rate", "learning\\_rate")


def test_runs_that_choose_are_not_reported(study, tmp_path):
    (experiment,) = load_experiments([study.write(tmp_path / "run")])
    assert [(c.name, [r.case.seed for r in c.runs]) for c in experiment.curves] == [(m, [*range(6)]) for m in ("sam", "dam", "lstm")]
    (choosing,) = load_experiments([tmp_path / "run"], choosing=True)
    assert {result.case.seed for result in choosing.runs} == {1000, 1001}


def test_what_is_decided_and_what_is_not(study, tmp_path):
    study.add("ntm", {3e-3: (200, 220), 1e-3: (300, 300)}, (180, 200, 230, 250, 260, 280))
    (experiment,) = load_experiments([study.write(tmp_path / "run")])
    needs = [line for line in sentences(experiment) if " needs " in line]
    assert [line.split(" needs ")[0] for line in needs] == ["dam", "lstm", "ntm"]
    assert re.search(
        r"1\.\d+ \[1\.\d+, none\] times the sequences of sam \(more, as the interval does not hold 1; log-rank p = 0\.00", needs[0]
    )
    assert re.search(r"at least 4\.\d+ times the sequences of sam \(more", needs[1])
    assert re.search(r"1\.\d+ \[0\.\d+, 1\.\d+\] times the sequences of sam \(not decided; log-rank p = 0\.[3-9]", needs[2])
    table = goal_table(experiment)
    column = [heading.heading for heading in table.columns].index("decided")
    assert [row[column].text for row in table.rows] == ["-", "more", "more", "not decided"]


def test_arms_are_compared_within_and_sam_with_the_first_arm(tmp_path):
    study = Study()
    for arm, optimizer in (("adam", "adam"), ("rmsprop", "rmsprop")):
        for model in ("sam", "dam"):
            study.add(model, {1e-3: (200,)}, (210, 220, 230, 240, 250, 260), arm=arm, optimizer=optimizer)
    (experiment,) = load_experiments([study.write(tmp_path / "run")])
    pairs = {c.name: getattr(experiment.reference_of(c), "name", None) for c in experiment.curves}
    assert pairs == {"sam adam": None, "dam adam": "sam adam", "sam rmsprop": "sam adam", "dam rmsprop": "sam rmsprop"}
    (loaded,) = load_studies([tmp_path / "run"])
    assert study_sentences(loaded)[-1] == "Nothing was chosen: the study has no grid."


def test_a_study_in_which_runs_that_choose_are_missing(study, tmp_path):
    kept = [result for result in study.results if result.case.seed >= 1000][:7]
    folder = study.write(tmp_path / "run", kept)
    (loaded,) = load_studies([folder])
    assert study_sentences(loaded)[-1] == "Runs that choose are missing, nothing is chosen yet: recall, dam; recall, lstm."
    assert "7 training runs" in write_learning_report([folder], tmp_path / "out").read_text()


def test_by_validation_the_errors_are_named(tmp_path):
    study = Study("validation")
    study.add("sam", {1e-3: (200, 200), 3e-3: (300, 300)}, (200,))
    study.results = [
        r.model_copy(update={"validation": r.validation.model_copy(update={"error": 1000 * r.case.learning_rate})}) if r.validation else r
        for r in study.results
    ]
    (loaded,) = load_studies([study.write(tmp_path / "run")])
    assert study_sentences(loaded)[-1] == (
        "recall, sam: learning_rate 0.001 (validation error 1); runner-up learning_rate 0.003 (validation error 3), 3 times as large."
    )


def test_log_rank_of_a_known_example():
    def treated(weeks, number, ended):
        return run("dam", number, 100 * weeks if ended else None, 100 * weeks)

    runs = [treated(weeks, number, ended) for ended, part in zip((True, False), TREATED, strict=True) for number, weeks in enumerate(part)]
    p = log_rank(Curve("dam", tuple(runs)), curve(*(100 * weeks for weeks in CONTROL), limit=10_000))
    assert p == pytest.approx(4.17e-5, rel=0.01)  # chi square 16.79 with one degree of freedom


def test_kaplan_meier():
    steps = not_at_goal(curve(200, 400, None, limit=500))
    assert [step.sequences for step in steps] == [0, 200, 400, 500]
    assert [step.share for step in steps] == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("base", "subject", "decision"),
    [
        ((400, 410, 420, 430, 440, 450), (200, 210, 220, 230, 240, 250), "more"),
        ((200, 210, 220, 230, 240, 250), (400, 410, 420, 430, 440, 450), "fewer"),
        ((200, 300, 400, 500, 600, 700), (200, 300, 400, 500, 600, 700), "not decided"),
        ((300,) * 6, (300,) * 6, "not decided"),  # a tie
        ((None,) * 6, (200, 210, 220, 230, 240, 250), "more"),
        ((200, 210, 220, 230, 240, 250), (None,) * 6, "fewer"),
        ((None,) * 6, (None,) * 6, "not decided"),
        ((400,), (200,), "not decided"),  # one seed
        ((400, 400, 400, 400, 400), (200,) * 6, "not decided"),
    ],
)
def test_decisions(base, subject, decision):
    curves = curve(*base, model="dam"), curve(*subject)
    assert decide(*curves, ratio(*curves, "sequences")) == decision


def test_a_seed_that_ended_early_may_need_any_more():
    """By its limit alone the base would need fewer: half of its seeds ended before they could need as many."""
    base = Curve("dam", tuple(run("dam", seed, count, 150) for seed, count in enumerate((100, 110, 120, 130, None, None, None))))
    found = ratio(base, curve(200, 210, 220, 230, 240, 250), "sequences")
    assert found is not None
    assert found.value < 1
    assert found.high == float("inf")
    assert decide(base, curve(200, 210, 220, 230, 240, 250), found) == "not decided"


def test_a_bound_decides_only_on_its_side():
    short = Curve("dam", tuple(run("dam", seed, None, 100) for seed in range(6)))
    slow = curve(200, 210, 220, 230, 240, 250)
    assert decide(short, slow, ratio(short, slow, "sequences")) == "not decided"  # it ended before it could need more


@pytest.mark.parametrize(("base", "subject"), [((None,) * 6, (None,) * 6), ((None,), (None,)), ((300,), (300,)), ((300,) * 6, (300,) * 6)])
def test_log_rank_where_nothing_can_be_tested(base, subject):
    assert log_rank(curve(*base, model="dam"), curve(*subject)) is None


@pytest.mark.parametrize("counts", [(None, None), (300, 300), (300,)], ids=["nobody", "tie", "one"])
def test_awkward_curves_still_give_a_page(tmp_path, counts):
    folder = tmp_path / "run"
    folder.mkdir()
    runs = [run(model, seed, count) for model in ("sam", "dam") for seed, count in enumerate(counts)]
    (folder / "learning.jsonl").write_text("".join(result.to_line() + "\n" for result in runs))
    page = write_learning_report([folder], tmp_path / "out").read_text()
    assert "not decided" in page
    assert ("half of the seeds of neither reached the goal" in page) == (counts == (None, None))
