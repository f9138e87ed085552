"""Repeat copy: random vectors, then how often their copy is due, and a marker after the last (Graves et al. 2014, section 4.2)."""

import torch

from mann_bench.suites.tasks.task import Batch, Task, check_option, random_bits


class RepeatCopy(Task):
    """Level = length; each batch asks for 1 to `repeats` copies.

    The two channels after the bits flag what is shown and give the number of copies, as a share of `repeats`. The last output bit is the
    marker, due 1 in the step after the last copy, where the other bits are due 0.
    """

    name = "repeat-copy"
    answer = "bits"
    level_means = "vectors"
    levels = (1, 10)

    def __init__(self, *, bits: int = 8, repeats: int = 10) -> None:
        check_option("bits", bits, 1)
        check_option("repeats", repeats, 1)
        self.bits, self.repeats, self.input_size, self.output_size = bits, repeats, bits + 2, bits + 1

    def steps(self, level: int) -> int:
        """Of the most copies."""
        return level + 1 + level * self.repeats + 1

    def chance(self, level: int) -> float:
        """Half of all copied bits, with the mean number of copies; when the marker comes is known."""
        return self.bits * level * (1 + self.repeats) / 4

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """inputs [T, B, bits + 2], targets [T, B, bits + 1], mask [T, B]; T depends on the number of copies."""
        self.check_level(level)
        copies = int(torch.randint(1, self.repeats + 1, (), generator=generator))
        shown = random_bits(level, batch, self.bits, generator)
        steps = level + 1 + level * copies + 1
        inputs = torch.zeros(steps, batch, self.input_size)
        targets, mask = torch.zeros(steps, batch, self.output_size), torch.zeros(steps, batch)
        inputs[:level, :, : self.bits], inputs[:level, :, self.bits] = shown, 1
        inputs[level, :, self.bits + 1] = copies / self.repeats
        targets[level + 1 : -1, :, : self.bits] = shown.repeat(copies, 1, 1)
        targets[-1, :, self.bits], mask[level + 1 :] = 1, 1
        return Batch(inputs, targets, mask)
