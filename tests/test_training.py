"""Models learn. The reduced runs can fail: without the memory's read in the output they do not pass."""

from typing import Any

import pytest

from mann_bench.suites.training import TASKS, learn

MODELS = ["lstm", "ntm", "dam", "dnc", "sam", "sdnc"]


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_curve(task):
    first, again = (learn(task, "sam", seed=3, limit=1600) for _ in range(2))
    assert first.curve == again.curve
    assert first.curve != learn(task, "sam", seed=4, limit=1600).curve


@pytest.mark.parametrize("model", ["dam", "sam"])
def test_reduced_copy_is_learned_beyond_what_a_controller_remembers(model):
    assert learn("copy", model, limit=12_800).bits_per_bit < 0.62


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_copy_to_two_hundredths_of_a_bit(model):
    assert learn("copy", model, limit=1_000_000 if model == "lstm" else 100_000).reached


@pytest.mark.slow
@pytest.mark.xfail(reason="the controller alone learns it as fast: see docs/results/learning-reference", strict=False)
@pytest.mark.parametrize("model", [model for model in MODELS if model != "lstm"])
def test_recall_clearly_better_than_lstm_in_the_same_number_of_sequences(model):
    settings: dict[str, Any] = {"hidden": 40, "rate": 0.01, "threshold": 0.05}  # a controller too small to hold four pairs itself
    run = learn("recall", model, limit=250_000, **settings)
    lstm = learn("recall", "lstm", limit=run.sequences, **settings)
    assert run.bits_per_bit < 0.7 * lstm.bits_per_bit
