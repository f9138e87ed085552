"""Models learn reduced tasks. If the output ignored what is read from the memory, these tests would fail."""

from typing import Any

import pytest

from mann_bench.learn.record import LearningCase
from mann_bench.learn.trainer import Trainer
from mann_bench.suites.tasks import find_task

MODELS = ["lstm", "ntm", "dam", "dnc", "sam", "sdnc"]
REDUCED: dict[str, dict[str, Any]] = {
    "copy": {"levels": (1, 8)},
    "recall": {"levels": (2, 4), "task_options": {"key_bits": 48, "value_bits": 2}},
}


def learn(folder, task, model, *, limit, **changes):
    sizes: dict[str, Any] = {"slots": 32, "word_size": 16, "heads": 1, "batch": 16, "learning_rate": 2e-3, "index": "exact"}
    case = LearningCase(task=task, model=model, sequences=limit, **{**sizes, **REDUCED[task], **changes})
    trainer = Trainer(case, find_task(task, options=case.task_options))
    trainer.run(folder / "checkpoint.pt")
    return trainer


def losses(trainer):
    return [point.loss for point in trainer.curve]


@pytest.mark.parametrize("task", REDUCED)
def test_same_seed_same_curve(task, tmp_path):
    first, again = (learn(tmp_path, task, "sam", seed=3, limit=1600) for _ in range(2))
    assert losses(first) == losses(again)
    assert losses(first) != losses(learn(tmp_path, task, "sam", seed=4, limit=1600))


@pytest.mark.parametrize("model", [pytest.param("dam", marks=pytest.mark.slow), "sam"])
def test_reduced_copy_is_learned_beyond_what_a_controller_remembers(model, tmp_path):
    assert learn(tmp_path, "copy", model, limit=12_800).curriculum.mean_loss() < 0.5  # the controller alone: 0.61


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_copy_to_two_hundredths_of_a_bit(model, tmp_path):
    assert learn(tmp_path, "copy", model, limit=1_000_000 if model == "lstm" else 100_000).reached is not None


@pytest.mark.slow
@pytest.mark.parametrize("model", [model for model in MODELS if model != "lstm"])
def test_recall_clearly_better_than_lstm_in_the_same_number_of_sequences(model, tmp_path):
    settings: dict[str, Any] = {"slots": 16, "word_size": 32, "heads": 4, "reads": 8, "learning_rate": 3e-3, "clip": 1.0}
    run = learn(tmp_path, "recall", model, limit=200_000, stop_at_goal=False, **settings)
    lstm = learn(tmp_path, "recall", "lstm", limit=200_000, stop_at_goal=False, **settings)
    assert run.curriculum.mean_loss() < 0.7 * lstm.curriculum.mean_loss()
