"""Task sequences: what is asked for was shown."""

import pytest
import torch

from mann_bench.suites.tasks import associative_recall


@pytest.mark.parametrize("steps", [4, 5, 10, 17])
def test_the_answer_is_the_cued_value(steps):
    inputs, targets, mask = associative_recall(3, steps, 12, seed=1)
    assert inputs.shape == (steps, 3, 12)
    assert targets.shape == (steps, 3, 10)
    for b in range(3):
        cue = int(inputs[:, b, 11].argmax())
        keys = [t for t in range(cue) if inputs[t, b, 10] == 1 and torch.equal(inputs[t, b, :10], inputs[cue, b, :10])]
        asked = int(mask[:, b].argmax())
        assert asked == cue + 1
        assert any(torch.equal(inputs[t + 1, b, :10], targets[asked, b]) for t in keys)
        assert not inputs[asked, b].any()
        assert mask[:, b].sum() == 1


def test_seeded_and_too_short_for_a_pair():
    first, again, other = (associative_recall(2, 9, 8, seed=seed)[0] for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    inputs, targets, mask = associative_recall(2, 1, 8, seed=0)
    assert torch.equal(inputs[0, :, :6], targets[0])
    assert mask.sum() == 2
