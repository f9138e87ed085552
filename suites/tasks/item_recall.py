"""Item recall: a chain of items, then one of them as a query, whose successor is due (Graves et al. 2014, section 4.3)."""

import torch

from mann_bench.suites.tasks.task import Batch, Task, check_option, random_bits


class ItemRecall(Task):
    """Level = items of `vectors` vectors of `bits` bits. The two channels after the bits are the delimiters: one before each item, another
    before and after the query. The successor is due in the steps after that, where the input is zero.
    """

    name = "item-recall"
    answer = "bits"
    level_means = "items"
    levels = (2, 6)
    first_level = 2

    def __init__(self, *, bits: int = 6, vectors: int = 3) -> None:
        check_option("bits", bits, 1)
        check_option("vectors", vectors, 1)
        self.bits, self.vectors, self.input_size, self.output_size = bits, vectors, bits + 2, bits

    def steps(self, level: int) -> int:
        """Each item and the query with their delimiters, and the answer."""
        return (1 + self.vectors) * level + 1 + self.vectors + 1 + self.vectors

    def chance(self, level: int) -> float:
        """Half of an item's bits."""
        return self.bits * self.vectors / 2

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """inputs [T, B, bits + 2], targets [T, B, bits], mask [T, B]."""
        self.check_level(level)
        items = random_bits(level * self.vectors, batch, self.bits, generator).unflatten(0, (level, self.vectors))
        asked, element = torch.randint(0, level - 1, (batch,), generator=generator), torch.arange(batch)
        inputs = torch.zeros(self.steps(level), batch, self.input_size)
        targets, mask = torch.zeros(self.steps(level), batch, self.bits), torch.zeros(self.steps(level), batch)
        chain = inputs[: (1 + self.vectors) * level].unflatten(0, (level, 1 + self.vectors))
        chain[:, 0, :, self.bits], chain[:, 1:, :, : self.bits] = 1, items
        query = inputs[len(inputs) - 2 * self.vectors - 2 : len(inputs) - self.vectors]
        query[0, :, self.bits + 1], query[-1, :, self.bits + 1] = 1, 1
        query[1:-1, :, : self.bits] = items[asked, :, element].transpose(0, 1)
        targets[-self.vectors :], mask[-self.vectors :] = items[asked + 1, :, element].transpose(0, 1), 1
        return Batch(inputs, targets, mask)
