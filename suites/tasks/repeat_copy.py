"""Repeat copy: random vectors and a number of copies; due are the copies, then an end marker (Graves et al. 2014, section 4.2)."""

import torch

from mann_bench.suites.tasks.task import Batch, Task, check_option, random_bits


class RepeatCopy(Task):
    """Level = number of vectors. A batch has 1 to `repeats` copies; the last output bit is the end marker.

    | steps | inputs, `bits` wide | channel `bits` | channel `bits + 1` | due |
    |---|---|---|---|---|
    | level | vectors | 1 | | |
    | 1 | | | copies / `repeats` | |
    | level x copies | | | | vectors, marker 0 |
    | 1 | | | | zeros, marker 1 |
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
        """T with `repeats` copies."""
        return level + 1 + level * self.repeats + 1

    def chance(self, level: int) -> float:
        """Half of the bits of a mean number of copies; the marker's step is known."""
        return self.bits * level * (1 + self.repeats) / 4

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """inputs [T, B, bits + 2], targets [T, B, bits + 1], mask [T, B]; T depends on the number of copies."""
        self.check_level(level)
        copies = int(torch.randint(1, self.repeats + 1, (), generator=generator, device="cpu"))
        vectors = random_bits(level, batch, self.bits, generator)
        sequences = self.blank(level + 1 + level * copies + 1, batch)
        shown, answer = slice(0, level), slice(level + 1, None)
        sequences.inputs[shown, :, : self.bits] = vectors
        sequences.inputs[shown, :, self.bits] = 1
        sequences.inputs[level, :, self.bits + 1] = copies / self.repeats
        sequences.targets[answer][:-1, :, : self.bits] = vectors.repeat(copies, 1, 1)
        sequences.targets[-1, :, self.bits] = 1
        sequences.mask[answer] = 1
        return sequences
