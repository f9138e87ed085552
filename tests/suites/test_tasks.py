"""Tasks: what is due was shown, the same generator gives the same batch, and chance is the counted error of the best guess."""

from collections import defaultdict
from itertools import pairwise

import pytest
import torch

from mann_bench.data.errors import UsageError
from mann_bench.data.registry import import_target
from mann_bench.suites.tasks import TASKS, associative_recall, find_task
from mann_bench.suites.tasks.recall import distinct_vectors
from mann_bench.suites.tasks.task import check_option

RANDOM_TASKS = [
    find_task("copy"),
    find_task("copy", options={"bits": 1}),
    find_task("repeat-copy", options={"repeats": 3}),
    find_task("recall"),
    find_task("recall", options={"key_bits": 3, "value_bits": 5, "together": 0}),
    find_task("item-recall"),
    find_task("item-recall", options={"vectors": 1, "bits": 7}),
    find_task("priority-sort"),
]


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("task", RANDOM_TASKS, ids=lambda task: f"{task.name}-{task.input_size}")
class TestEveryTask:
    """Properties of every task with random sequences."""

    @pytest.mark.parametrize("further", [0, 1, 6])
    def test_shapes(self, task, further):
        level = task.first_level + further
        batch = task.sample(level, 3, generator(1))
        steps = len(batch.inputs)
        assert steps <= task.steps(level)
        assert batch.inputs.shape == (steps, 3, task.input_size)
        assert batch.targets.shape == (steps, 3, task.output_size)
        assert batch.mask.shape == (steps, 3)
        assert set(batch.mask.unique().tolist()) == {0, 1}
        assert set(batch.targets.unique().tolist()) <= {0, 1}
        assert not batch.inputs[batch.mask == 1].any()
        assert not batch.targets[batch.mask == 0].any()

    def test_seeded(self, task):
        level = task.first_level + 4
        first, again, other = (task.sample(level, 2, generator(seed)) for seed in (5, 5, 6))
        assert torch.equal(first.inputs, again.inputs)
        assert torch.equal(first.targets, again.targets)
        assert not (first.inputs.shape == other.inputs.shape and torch.equal(first.inputs, other.inputs))

    def test_chance_is_the_error_of_the_commonest_bits(self, task):
        level, draws = task.first_level + 2, 300
        batches = [task.sample(level, 16, generator(seed)) for seed in range(draws)]
        by_length = defaultdict(list)
        for batch in batches:
            by_length[len(batch.inputs)].append(batch)
        errors = 0.0
        for alike in by_length.values():  # the guess knows when answers are due
            targets = torch.cat([batch.targets for batch in alike], dim=1)
            guess = (targets.mean(1, keepdim=True) > 0.5).float()
            errors += float(sum(task.wrong(2 * guess.expand_as(batch.targets) - 1, batch).sum() for batch in alike))
        assert errors / (16 * draws) == pytest.approx(task.chance(level), rel=0.05)

    def test_right_answers_are_not_wrong_and_cost_nothing(self, task):
        batch = task.sample(task.first_level + 1, 2, generator(0))
        right = 100 * (2 * batch.targets - 1)
        assert not task.wrong(right, batch).any()
        assert float(task.loss(right, batch)) < 1e-30
        assert float(task.loss(torch.zeros_like(right), batch)) == pytest.approx(1)

    def test_a_level_below_the_first_is_refused(self, task):
        with pytest.raises(ValueError, match=f"at least {task.first_level}"):
            task.sample(task.first_level - 1, 1, generator(0))


def test_copy_is_of_what_was_shown():
    batch = find_task("copy").sample(5, 2, generator(3))
    assert torch.equal(batch.targets[6:], batch.inputs[:5, :, :8])
    assert batch.inputs[5, :, 9].all()


def test_repeat_copy_counts_and_marks_the_end():
    task = find_task("repeat-copy", options={"bits": 3, "repeats": 4})
    seen = set()
    for seed in range(20):
        batch = task.sample(2, 1, generator(seed))
        copies = round(float(batch.inputs[2, 0, 4]) * 4)
        seen.add(copies)
        assert len(batch.inputs) == 2 + 1 + 2 * copies + 1
        assert torch.equal(batch.targets[3:-1, 0, :3], batch.inputs[:2, 0, :3].repeat(copies, 1))
        assert batch.targets[:, 0, 3].nonzero().tolist() == [[len(batch.inputs) - 1]]
    assert seen == {1, 2, 3, 4}


@pytest.mark.parametrize("together", [0, 1])
def test_recall_asks_for_the_value_of_the_only_equal_key(together):
    task = find_task("recall", options={"key_bits": 3, "value_bits": 5, "together": together})
    batch = task.sample(8, 2, generator(2))  # all 8 keys there are
    for b in range(2):
        shown, cue = batch.inputs[:-2, b], batch.inputs[-2, b]
        keys = shown[shown[:, -2] == 1][:, :3]
        values = shown[:, 3:8] if together else shown[1::2, :5]
        (place,) = (keys == cue[:3]).all(1).nonzero().flatten().tolist()
        assert len({tuple(key.tolist()) for key in keys}) == 8
        assert torch.equal(values[place], batch.targets[-1, b])
        assert cue[-1] == 1
        assert batch.mask[:, b].tolist() == [0] * (len(shown) + 1) + [1]
    with pytest.raises(ValueError, match="at most 8"):
        task.sample(9, 1, generator(0))


@pytest.mark.parametrize(("count", "bits"), [(1, 1), (2, 1), (7, 4), (9, 4), (5000, 13), (3000, 40)])
def test_different_vectors_differ(count, bits):
    vectors = distinct_vectors(count, 2, bits, generator(1))
    assert vectors.shape == (count, 2, bits)
    for b in range(2):
        assert len(vectors[:, b].unique(dim=0)) == count


def test_item_recall_asks_for_the_next_item():
    batch = find_task("item-recall").sample(4, 3, generator(4))
    for b in range(3):
        chain = batch.inputs[:16, b].unflatten(0, (4, 4))
        assert chain[:, 0, 6].all()
        items, query = chain[:, 1:, :6], batch.inputs[17:20, b, :6]
        (place,) = (items == query).all(-1).all(-1).nonzero().flatten().tolist()
        assert torch.equal(batch.targets[-3:, b], items[place + 1])
        assert batch.inputs[:, b, 7].nonzero().flatten().tolist() == [16, 20]


def test_priority_sort_is_in_descending_order():
    batch = find_task("priority-sort").sample(20, 2, generator(6))
    assert int(batch.mask.sum()) == 2 * 16
    for b in range(2):
        shown = sorted(batch.inputs[:20, b].tolist(), key=lambda row: -row[8])
        assert all(first[8] > second[8] for first, second in pairwise(shown))
        assert batch.targets[21:, b].tolist() == [row[:8] for row in shown[:16]]


class TestFindTask:
    """By name, with data and options."""

    @pytest.mark.parametrize(
        ("name", "data", "options", "message"),
        [
            ("coppy", None, {}, "did you mean 'copy'"),
            ("copy", "/somewhere", {}, "leave --data out"),
            ("omniglot", None, {}, "expected --data PATH"),
            ("copy", None, {"bit": 3}, "did you mean 'bits'"),
            ("copy", None, {"bits": 0}, "bits: expected at least 1, got 0"),
            ("recall", None, {"key_bits": 63}, "at most 62"),
            ("no.such.module:Task", None, {}, "importable"),
            ("fractions:Fraction", None, {}, "expected a Task"),
        ],
    )
    def test_errors_say_what_was_expected(self, name, data, options, message):
        with pytest.raises(UsageError, match=message):
            find_task(name, data, options)

    def test_own_task(self):
        assert find_task("mann_bench.suites.tasks.copying:Copy", options={"bits": 3}).output_size == 3

    def test_names_agree(self):
        assert {name: import_target("task", target).name for name, target in TASKS.items()} == {name: name for name in TASKS}


def test_check_option():
    check_option("n", 3, 1, 3)
    with pytest.raises(ValueError, match="at least 1 and at most 3, got 4"):
        check_option("n", 4, 1, 3)


@pytest.mark.parametrize("steps", [4, 5, 10, 17])
def test_the_benchmark_sequence_asks_for_the_cued_value(steps):
    inputs, targets, mask = associative_recall(3, steps, 12, seed=1)
    assert inputs.shape == (steps, 3, 12)
    assert targets.shape == (steps, 3, 10)
    for b in range(3):
        cue = int(inputs[:, b, 11].argmax())
        keys = [t for t in range(cue) if inputs[t, b, 10] == 1 and torch.equal(inputs[t, b, :10], inputs[cue, b, :10])]
        answer = int(mask[:, b].argmax())
        assert answer == cue + 1
        assert any(torch.equal(inputs[t + 1, b, :10], targets[answer, b]) for t in keys)
        assert not inputs[answer, b].any()
        assert mask[:, b].sum() == 1


def test_the_benchmark_sequence_is_seeded_and_may_be_too_short_for_a_pair():
    first, again, other = (associative_recall(2, 9, 8, seed=seed)[0] for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    inputs, targets, mask = associative_recall(2, 1, 8, seed=0)
    assert torch.equal(inputs[0, :, :6], targets[0])
    assert mask.sum() == 2
