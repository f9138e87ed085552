"""Evaluation after training: held-out sequences, the memory they start from, and what cannot be measured."""

import time
from typing import Any

import pytest
import torch
from torch.nn import functional

from mann_bench.learn.evaluation import EmptyStates, evaluate, levels_to_test, model_to_test, run_in_chunks, validate
from mann_bench.models.sparse.reset import Reset
from mann_bench.suites.tasks import Batch, Task, find_task
from tests.support.training import make, small_case


class TwoGroups(Task):
    """Five sequences of one step: three of group 7, whose answer is 0, two of group 8, whose answer is 1; held out only."""

    name, answer, level_means, levels, input_size, output_size = "two-groups", "class", "step", (1, 1), 1, 2
    held = False

    def sample(self, level, batch, generator):
        raise AssertionError("held-out sequences have an end: none is drawn")

    def steps(self, level):
        return 1

    def chance(self, level):
        return 0.5

    def chance_of(self, group):
        return 0.25 if group == 7 else None

    def held_out(self):
        other = TwoGroups()
        other.held = True
        return other

    def every(self, batch):
        assert self.held
        group = torch.tensor([[7, 7, 7, 8, 8]])
        for part in group.split(batch, dim=1):
            yield Batch(torch.zeros(*part.shape, 1), (part == 8).long(), torch.ones(part.shape), part)


class TestEvaluation:
    """Held-out errors of untrained models."""

    def test_same_sequences_whatever_was_trained_before(self):
        case = small_case()
        first, again = make(case), make(case)
        again.train_batch()
        again.model.load_state_dict(first.model.state_dict())
        task = first.task
        assert evaluate(first.model, case, task, 2, 60) == evaluate(again.model, case, task, 2, 60)
        assert validate(first.model, case, task, 2, 60) == validate(again.model, case, task, 2, 60)
        assert validate(first.model, case, task, 2, 60) != evaluate(first.model, case, task, 2, 60)[0]
        (evaluation,) = evaluate(first.model, case, task, 2, 60)
        assert evaluation.chance == 8
        assert evaluation.error == pytest.approx(8, rel=0.2)
        assert evaluation.sequences == 258

    @pytest.mark.parametrize("model", ["sam", "ntm", "lstm"])
    def test_a_long_sequence_in_parts_is_one_sequence(self, model, monkeypatch):
        trainer = make(small_case(model=model))
        batch = trainer.task.sample(9, 3, torch.Generator().manual_seed(0))
        whole, _ = run_in_chunks(trainer.model, batch.inputs, time.monotonic() + 60)
        monkeypatch.setattr("mann_bench.learn.evaluation.CHUNK_STEPS", 4)
        torch.testing.assert_close(run_in_chunks(trainer.model, batch.inputs, time.monotonic() + 60)[0], whole)

    def test_another_index_than_in_training(self):
        trainer = make(small_case(index="live", test_index="lsh"))
        trainer.train_batch()
        model: Any = model_to_test(trainer)
        assert (trainer.model.backend["index"], model.backend["index"]) == ("live", "lsh")
        assert all(torch.equal(own, other) for own, other in zip(model.parameters(), trainer.model.parameters(), strict=True))
        assert evaluate(model, trainer.case, trainer.task, 2, 60)[0].sequences == 258
        same = make(small_case(index="live"))
        assert model_to_test(same) is same.model

    @pytest.mark.parametrize("model", ["sam", "sdnc", "sdm", "dam", "lstm"])
    def test_a_memory_that_is_emptied_serves_as_a_new_one(self, model):
        trainer = make(small_case(model=model, slots=64, sequences=8, batch=4))
        while trainer.ending() is None:
            trainer.train_batch()
        new = [evaluate(trainer.model, trainer.case, trainer.task, level, 60) for level in (1, 3)]
        states = EmptyStates(trainer.model, trainer.release_state())
        assert trainer.state is None
        assert [evaluate(trainer.model, trainer.case, trainer.task, level, 60, states=states) for level in (1, 3)] == new
        assert (states.state is not None) == (model in ("sam", "sdnc", "sdm"))

    def test_a_memory_is_emptied_an_element_after_the_other(self, monkeypatch):
        trainer = make(small_case(slots=64, batch=4))
        state = trainer.model.initial_state(4)
        with torch.no_grad():
            _, state = trainer.model(torch.rand(9, 4, trainer.task.input_size), state)
        made = []

        class Counted(Reset):
            def __init__(self, memory, position, elements, tables=()):
                super().__init__(memory, position, elements, tables)
                made.append(sum(old.numel() for _, _, old in self.saved))

        monkeypatch.setattr("mann_bench.models.sparse.state.Reset", Counted)
        EmptyStates(trainer.model).give_back(state)
        assert len(made) == 4
        assert max(made) < sum(made) / 3  # so large is what is held at once

    def test_only_an_empty_state_is_handed_on(self):
        trainer = make(small_case(sequences=100, batch=4))
        trainer.train_batch()  # of many
        assert trainer.state is not None
        assert trainer.release_state() is None
        full = make(small_case(sequences=4, batch=4, fill="full"))
        full.train_batch()
        assert full.ending() is not None
        assert full.release_state() is None

    def test_what_cannot_be_measured_is_recorded(self):
        trainer = make(small_case())

        def hungry(x, state):
            raise MemoryError

        (full,) = evaluate(hungry, trainer.case, trainer.task, 2, 60)
        assert (full.error, full.reason) == (None, "out of memory")
        (late,) = evaluate(trainer.model, trainer.case, find_task("copy"), 2000, 0.0)
        assert late.error is None
        assert "a batch takes more" in str(late.reason)

    def test_all_that_is_held_out_is_counted_by_group(self):
        trainer = make(small_case())
        answered = []

        def says_class_1(x, state):
            answered.append(x.shape[1])
            return functional.one_hot(torch.ones(x.shape[:2], dtype=torch.int64), 2).float(), None

        whole, *groups = evaluate(says_class_1, trainer.case, TwoGroups().held_out(), 1, 60)
        assert answered == [3, 2]  # each held-out sequence once
        assert (whole.group, whole.error, whole.chance, whole.sequences) == (None, 3 / 5, 0.5, 5)
        assert [(part.group, part.error, part.chance) for part in groups] == [(7, 1.0, 0.25), (8, 0.0, 0.5)]
        assert validate(says_class_1, trainer.case, TwoGroups(), 1, 60) is None  # the task has no validation part

    def test_levels(self):
        assert levels_to_test(small_case(levels=(1, 20)), find_task("copy"), 20) == [1, 10, 20, 40, 100, 200]
        keys = find_task("recall", options={"key_bits": 3})
        assert levels_to_test(small_case(levels=(1, 8), task="recall"), keys, 2) == [1, 2, 4]
