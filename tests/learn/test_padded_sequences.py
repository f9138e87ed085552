"""Training on sequences that are padded to the longest of their batch."""

import pytest
import torch

from mann_bench.learn.trainer import Trainer
from mann_bench.suites.tasks import Batch, Task
from tests.support.training import small_case

MODELS = ("sam", "sdnc", "dam", "ntm", "dnc", "lstm", "sdm", "pkm", "deltanet", "tests.learn.test_trainer:Plain")


class Padded(Task):
    """Sequences of 1 to 9 steps, padded with zeros; an answer is due at each of their steps."""

    name, answer, level_means, levels = "padded", "bits", "levels", (1, 1)
    input_size, output_size = 3, 1

    def __init__(self, *, says_lengths):
        self.says_lengths = says_lengths

    def steps(self, level):
        return 9

    def sample(self, level, batch, generator):
        lengths = torch.randint(1, 10, (batch,), generator=generator)
        inside = (torch.arange(9)[:, None] < lengths).float()
        inputs = torch.randint(0, 2, (9, batch, 3), generator=generator) * inside[..., None]
        return Batch(inputs, inputs[..., :1], inside, lengths=lengths if self.says_lengths else None)


@pytest.mark.parametrize("model", MODELS)
def test_training_on_the_steps_of_each_sequence_is_training_on_padding_too(model):
    losses = []
    for says_lengths in (True, False):
        trainer = Trainer(small_case(model=model, slots=64, batch=11, levels=(1, 1)), Padded(says_lengths=says_lengths))
        for _ in range(5):
            trainer.train_batch()
        losses.append(trainer.since_point[1])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
