"""Item recall: a chain of items, then one of them as a query; due is the next item of the chain (Graves et al. 2014, section 4.3)."""

import torch

from mann_bench.suites.tasks.task import Batch, Task, check_option, random_bits


class ItemRecall(Task):
    """Level = number of items; an item is `vectors` vectors of `bits` bits.

    | steps | inputs, `bits` wide | channel `bits` | channel `bits + 1` | due |
    |---|---|---|---|---|
    | level x 1 | | 1 (before an item) | | |
    | level x `vectors` | item | | | |
    | 1 | | | 1 (before the query) | |
    | `vectors` | query | | | |
    | 1 | | | 1 (after the query) | |
    | `vectors` | | | | next item |
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
        return (1 + self.vectors) * level + 1 + self.vectors + 1 + self.vectors

    def chance(self, level: int) -> float:
        return self.bits * self.vectors / 2

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """inputs [T, B, bits + 2], targets [T, B, bits], mask [T, B]."""
        self.check_level(level)
        size = self.vectors
        items = random_bits(level * size, batch, self.bits, generator).unflatten(0, (level, size))  # [level, vectors, B, bits]
        query_item = torch.randint(0, level - 1, (batch,), generator=generator, device="cpu")
        element = torch.arange(batch, device="cpu")
        sequences = self.blank(self.steps(level), batch)
        chain = sequences.inputs[: (1 + size) * level].unflatten(0, (level, 1 + size))
        chain[:, 0, :, self.bits] = 1
        chain[:, 1:, :, : self.bits] = items
        query = sequences.inputs[(1 + size) * level : -size]
        query[0, :, self.bits + 1] = query[-1, :, self.bits + 1] = 1
        query[1:-1, :, : self.bits] = items[query_item, :, element].transpose(0, 1)
        sequences.targets[-size:], sequences.mask[-size:] = items[query_item + 1, :, element].transpose(0, 1), 1
        return sequences
