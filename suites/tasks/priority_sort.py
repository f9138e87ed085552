"""Priority sort: vectors with priorities; due are those of the highest, in descending order (Graves et al. 2014, section 4.5)."""

import torch

from mann_bench.suites.tasks.task import Batch, Task, check_option, random_bits, uniform


class PrioritySort(Task):
    """Level = number of vectors. Due are four fifths of them: 16 of the paper's 20.

    | steps | inputs, `bits` wide | channel `bits` | channel `bits + 1` | channel `bits + 2` | due |
    |---|---|---|---|---|---|
    | level | vectors | priority ~ U(-1, 1) | 1 | | |
    | 1 | | | | 1 (delimiter) | |
    | level x 4/5 | | | | | sorted vectors |
    """

    name = "priority-sort"
    answer = "bits"
    level_means = "vectors"
    levels = (20, 20)

    def __init__(self, *, bits: int = 8) -> None:
        check_option("bits", bits, 1)
        self.bits, self.input_size, self.output_size = bits, bits + 3, bits

    def vectors_due(self, level: int) -> int:
        return max(1, level * 4 // 5)

    def steps(self, level: int) -> int:
        return level + 1 + self.vectors_due(level)

    def chance(self, level: int) -> float:
        return self.bits * self.vectors_due(level) / 2

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """inputs [T, B, bits + 3], targets [T, B, bits], mask [T, B]."""
        self.check_level(level)
        vectors = random_bits(level, batch, self.bits, generator)
        priority = 2 * uniform(level, batch, generator=generator) - 1
        order = priority.argsort(0, descending=True)[: self.vectors_due(level)]  # [due, B]
        sequences = self.blank(self.steps(level), batch)
        shown, delimiter, answer = slice(0, level), level, slice(level + 1, None)
        sequences.inputs[shown, :, : self.bits] = vectors
        sequences.inputs[shown, :, self.bits] = priority
        sequences.inputs[shown, :, self.bits + 1] = 1
        sequences.inputs[delimiter, :, self.bits + 2] = 1
        sequences.targets[answer], sequences.mask[answer] = vectors[order, torch.arange(batch, device="cpu")], 1
        return sequences
