"""Copy: random vectors, a delimiter, then their copy with no input (Graves et al. 2014, section 4.1)."""

import torch

from mann_bench.suites.tasks.task import Batch, Task, check_option, random_bits


class Copy(Task):
    """Level = length. The two channels after the bits flag what is shown and the delimiter."""

    name = "copy"
    answer = "bits"
    level_means = "vectors"
    levels = (1, 20)

    def __init__(self, *, bits: int = 8) -> None:
        check_option("bits", bits, 1)
        self.bits, self.input_size, self.output_size = bits, bits + 2, bits

    def steps(self, level: int) -> int:
        """Shown, delimiter, copied."""
        return 2 * level + 1

    def chance(self, level: int) -> float:
        """Half of all bits."""
        return self.bits * level / 2

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """inputs [T, B, bits + 2], targets [T, B, bits], mask [T, B]."""
        self.check_level(level)
        shown = random_bits(level, batch, self.bits, generator)
        inputs = torch.zeros(self.steps(level), batch, self.input_size)
        targets, mask = torch.zeros(self.steps(level), batch, self.bits), torch.zeros(self.steps(level), batch)
        inputs[:level, :, : self.bits], inputs[:level, :, self.bits], inputs[level, :, self.bits + 1] = shown, 1, 1
        targets[level + 1 :], mask[level + 1 :] = shown, 1
        return Batch(inputs, targets, mask)
