"""The memory of a training run holds what a sequence writes, by default; a smaller one is told."""

from typing import Any

import pytest
import torch

from mann_bench.learn.evaluation import evaluate
from mann_bench.learn.memory_size import rows_written, slots_for, too_small
from mann_bench.learn.plan import CURRICULUM_SLOTS, plan_run
from mann_bench.learn.record import Evaluation, LearningOptions
from mann_bench.models import DAM, SAM, SDNC
from mann_bench.reports.learning.experiments import load_experiments
from mann_bench.reports.learning.sentences import sentences
from mann_bench.reports.learning.tables import level_table
from mann_bench.suites.tasks import find_task
from tests.support.learning import make_run

TASKS = ["copy", "repeat-copy", "recall", "item-recall", "priority-sort"]


def planned(task="recall", model="sam", **options):
    (settings,) = LearningOptions(sequences=1, **options).of_model(model)
    return plan_run(task, find_task(task), model, 0, settings)


@pytest.mark.parametrize("task", TASKS)
def test_default_is_the_least_power_of_two_that_holds_every_write(task):
    cases = {model: planned(task, model) for model in ("sam", "sdnc", "dam", "ntm", "dnc")}
    slots = {case.slots for case in cases.values()}
    assert len(slots) == 1
    rows = find_task(task).steps(cases["sam"].levels[1]) * cases["sam"].heads
    (size,) = slots
    assert size / 2 < rows <= size
    assert size.bit_count() == 1
    assert [too_small(case, find_task(task)) for case in cases.values()] == [None] * 5


def test_rows_written_are_those_of_the_models_writers():
    """A case of a task gives a model its heads only, so writers are the constructors' defaults."""
    sizes: dict[str, Any] = {"input_size": 3, "output_size": 2, "slots": 8, "word_size": 4, "heads": 3}
    for model, kind in (("sam", SAM), ("dam", DAM)):
        assert rows_written(planned(model=model, heads=3), find_task("recall"), 6) == kind(**sizes).write_heads * 8
    assert SDNC(**sizes).write_heads == 1
    assert rows_written(planned(model="sdnc", heads=3), find_task("recall"), 6) == 8
    assert rows_written(planned(model="ntm"), find_task("recall"), 6) is None


def test_a_smaller_memory_is_told_with_the_first_level_that_it_does_not_hold():
    task = find_task("copy")
    for slots in (5, 16, 40):
        told = too_small(planned("copy", slots=slots), task)
        first = next(level for level in range(1, 21) if task.steps(level) > slots)
        assert f"a sequence of level {first} or higher writes; --slots 64 holds all" in str(told)
    assert too_small(planned("copy", slots=41), task) is None
    assert too_small(planned("copy", "lstm", slots=5), task) is None


def test_a_curriculum_without_end_is_told_where_its_memory_is_full():
    case = planned("copy", curriculum="exponential")
    assert case.slots == CURRICULUM_SLOTS
    assert "level 512 or higher writes; give more --slots" in str(too_small(case, find_task("copy")))


def test_the_default_holds_at_least_the_rows_that_a_head_reads():
    assert planned("copy", levels=(1, 2), reads=32).slots == 32


def test_the_command_warns_once_a_model(call, tmp_path, monkeypatch):
    monkeypatch.setattr("mann_bench.learn.session.LearningSession.run", lambda self, jobs: self.statuses)
    monkeypatch.setattr("mann_bench.cli.learn.summarize", lambda *_: None)
    done = call("learn", "recall", "--models", "sam,ntm", "--slots", "16", "--sequences", "1", "--out", tmp_path / "out")
    assert done.stderr.count("warning: sam: N = 16 is less than the rows") == 1
    assert "warning: ntm" not in done.stderr


def test_the_page_tells(tmp_path):
    runs = [make_run("sam", seed, slots=16).model_copy(update={"rows_written": 32}) for seed in range(2)]
    runs += [make_run("dam", slots=32).model_copy(update={"rows_written": 32}), make_run("ntm", slots=16)]
    (tmp_path / "learning.jsonl").write_text("".join(run.to_line() + "\n" for run in runs))
    (experiment,) = load_experiments([tmp_path])
    told = [sentence for sentence in sentences(experiment) if "smaller than what a sequence writes" in sentence]
    assert told == ["A memory that is smaller than what a sequence writes loses what came first: sam has 16 rows and writes up to 32."]


def test_levels_whose_sequences_overwrite_themselves_are_marked(tmp_path):
    """The memory holds what a sequence of the levels trained on writes, and too few rows for the higher ones that are tested."""
    written = {6: 32, 12: 56, 60: 248}
    tested = [Evaluation(level=level, error=0.1, chance=1.0, sequences=256, rows_written=rows) for level, rows in written.items()]
    runs = [make_run("sam", seed, slots=32, evaluations=tested) for seed in range(2)]
    runs += [
        make_run("dam", slots=64, evaluations=tested),
        make_run("ntm", slots=8, evaluations=[tested[0].model_copy(update={"rows_written": None})]),
    ]
    (tmp_path / "learning.jsonl").write_text("".join(run.to_line() + "\n" for run in runs))
    (experiment,) = load_experiments([tmp_path])
    told = [sentence for sentence in sentences(experiment) if sentence.startswith("Sequences with so many pairs write more rows")]
    assert len(told) == 1
    assert told[0].endswith("so errors there say little about the model: sam from 12 on (32 rows); dam from 60 on (64 rows).")
    table = level_table(experiment)
    assert [(row[0].text, row[1].text) for row in table.rows] == [
        *(("sam", level) for level in ("6", "12 †", "60 †")),
        *(("dam", level) for level in ("6", "12", "60 †")),
        ("ntm", "6"),
    ]
    assert "†: such sequences write more rows than the memory has" in table.note


def test_an_evaluation_says_how_many_rows_its_sequences_write():
    case = planned("recall", heads=3)
    task = find_task("recall")
    for level in (2, 6):
        (evaluation,) = evaluate(lambda x, state: (torch.zeros(*x.shape[:2], task.output_size), state), case, task, level, 60)
        assert evaluation.rows_written == rows_written(case, task, level) == 3 * task.steps(level)


@pytest.mark.parametrize(("steps", "heads", "slots"), [(1, 1, 2), (2, 1, 2), (3, 1, 4), (8, 4, 32), (9, 4, 64)])
def test_slots(steps, heads, slots):
    task = find_task("copy")
    task.steps = lambda level: steps  # type: ignore[method-assign]
    assert slots_for(task, 1, heads) == slots
