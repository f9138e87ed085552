"""Priority sort: vectors with priorities; those of the highest are due, in descending order (Graves et al. 2014, section 4.5)."""

import torch

from mann_bench.suites.tasks.task import Batch, Task, check_option, random_bits


class PrioritySort(Task):
    """Level = vectors; four of five are due, 16 of the paper's 20. The channels after the bits: the priority, U(-1, 1), what is shown, and
    the delimiter.
    """

    name = "priority-sort"
    answer = "bits"
    level_means = "vectors"
    levels = (20, 20)

    def __init__(self, *, bits: int = 8) -> None:
        check_option("bits", bits, 1)
        self.bits, self.input_size, self.output_size = bits, bits + 3, bits

    def asked(self, level: int) -> int:
        """How many vectors are due."""
        return max(1, level * 4 // 5)

    def steps(self, level: int) -> int:
        """Shown, delimiter, sorted."""
        return level + 1 + self.asked(level)

    def chance(self, level: int) -> float:
        """Half of the bits due."""
        return self.bits * self.asked(level) / 2

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """inputs [T, B, bits + 3], targets [T, B, bits], mask [T, B]."""
        self.check_level(level)
        shown = random_bits(level, batch, self.bits, generator)
        priority = 2 * torch.rand(level, batch, generator=generator) - 1
        order = priority.argsort(0, descending=True)[: self.asked(level)]  # [due, B]
        inputs = torch.zeros(self.steps(level), batch, self.input_size)
        targets, mask = torch.zeros(self.steps(level), batch, self.bits), torch.zeros(self.steps(level), batch)
        inputs[:level, :, : self.bits], inputs[:level, :, self.bits], inputs[:level, :, self.bits + 1] = shown, priority, 1
        inputs[level, :, self.bits + 2] = 1
        targets[level + 1 :], mask[level + 1 :] = shown[order, torch.arange(batch)], 1
        return Batch(inputs, targets, mask)
