"""Copy: random vectors, a delimiter, then their copy with no input (Graves et al. 2014, section 4.1)."""

import torch

from mann_bench.suites.tasks.task import Batch, Task, check_option, random_bits


class Copy(Task):
    """Level = number of vectors.

    | steps | inputs, `bits` wide | channel `bits` | channel `bits + 1` | due |
    |---|---|---|---|---|
    | level | vectors | 1 | | |
    | 1 | | | 1 (delimiter) | |
    | level | | | | vectors |
    """

    name = "copy"
    answer = "bits"
    level_means = "vectors"
    levels = (1, 20)

    def __init__(self, *, bits: int = 8) -> None:
        check_option("bits", bits, 1)
        self.bits, self.input_size, self.output_size = bits, bits + 2, bits

    def steps(self, level: int) -> int:
        return 2 * level + 1

    def chance(self, level: int) -> float:
        return self.bits * level / 2

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """inputs [T, B, bits + 2], targets [T, B, bits], mask [T, B]."""
        self.check_level(level)
        vectors = random_bits(level, batch, self.bits, generator)
        sequences = self.blank(self.steps(level), batch)
        shown, delimiter, answer = slice(0, level), level, slice(level + 1, None)
        sequences.inputs[shown, :, : self.bits] = vectors
        sequences.inputs[shown, :, self.bits] = 1
        sequences.inputs[delimiter, :, self.bits + 1] = 1
        sequences.targets[answer], sequences.mask[answer] = vectors, 1
        return sequences
