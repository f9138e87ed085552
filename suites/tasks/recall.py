"""Associative recall: key/value pairs, then a cue key, whose value is due (Rae et al. 2016, sections 4.2 and 4.3)."""

import torch
from torch import Tensor

from mann_bench.suites.tasks.task import Batch, Task, check_option, random_bits


class Recall(Task):
    """Level = pairs. `together=1`: key and value come in one step; 0: the key in one step and its value in the next.

    The last two channels flag a key that is shown and the cue. In the step after the cue, where the input is zero, the value is due.
    Keys of a sequence differ, so that there is one answer.
    """

    name = "recall"
    answer = "bits"
    level_means = "pairs"
    levels = (3, 6)

    def __init__(self, *, key_bits: int = 16, value_bits: int = 8, together: int = 1) -> None:
        check_option("key_bits", key_bits, 1, 62)
        check_option("value_bits", value_bits, 1)
        check_option("together", together, 0, 1)
        self.key_bits, self.value_bits, self.together = key_bits, value_bits, together
        self.input_size = 2 + (key_bits + value_bits if together else max(key_bits, value_bits))
        self.output_size = value_bits
        self.last_level = 2**key_bits
        self.levels = (min(3, self.last_level), min(6, self.last_level))

    def steps(self, level: int) -> int:
        """A step or two a pair, the cue and the answer."""
        return (1 if self.together else 2) * level + 2

    def chance(self, level: int) -> float:
        """Half of the value's bits."""
        return self.value_bits / 2

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """inputs [T, B, X], targets [T, B, value_bits], mask [T, B]."""
        self.check_level(level)
        keys = different(level, batch, self.key_bits, generator)
        values = random_bits(level, batch, self.value_bits, generator)
        asked, element = torch.randint(0, level, (batch,), generator=generator), torch.arange(batch)
        steps, flags = self.steps(level), self.input_size - 2
        inputs = torch.zeros(steps, batch, self.input_size)
        shown = inputs[:-2]
        if self.together:
            shown[..., : self.key_bits], shown[..., self.key_bits : flags], shown[..., flags] = keys, values, 1
        else:
            shown[0::2, :, : self.key_bits], shown[1::2, :, : self.value_bits], shown[0::2, :, flags] = keys, values, 1
        inputs[-2, :, : self.key_bits], inputs[-2, :, flags + 1] = keys[asked, element], 1
        targets, mask = torch.zeros(steps, batch, self.value_bits), torch.zeros(steps, batch)
        targets[-1], mask[-1] = values[asked, element], 1
        return Batch(inputs, targets, mask)


def different(count: int, batch: int, bits: int, generator: torch.Generator) -> Tensor:
    """Random vectors of bits of which no two of a batch element are equal, float [count, B, bits]."""
    if 2 * count > 2**bits:
        numbers = torch.rand(batch, 2**bits, generator=generator).argsort(1)[:, :count]
    else:
        numbers = torch.randint(2**bits, (batch, count), generator=generator)
        while (again := _repeated(numbers)).any():
            numbers[again] = torch.randint(2**bits, (int(again.sum()),), generator=generator)
    return (numbers.T.unsqueeze(-1) >> torch.arange(bits) & 1).float()


def _repeated(numbers: Tensor) -> Tensor:
    """Which numbers [B, n] stand in their row a second time: bool [B, n]."""
    ordered, order = numbers.sort(1)
    same = torch.zeros_like(numbers, dtype=torch.bool)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return torch.zeros_like(same).scatter(1, order, same)


def associative_recall(
    batch: int, steps: int, input_size: int, *, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """The workload of benchmarks: recall, key and value in steps of their own, cut to any number of steps and any width.

    One vector of random bits a step: key, value, key, value, ..., cue, answer. The last two input channels flag a key and the cue.
    Returns inputs [T, B, X], targets [T, B, X - 2] and mask [T, B] (1 at the answer step, where the input is zero). An odd last
    step repeats the silence of the answer; with fewer than four steps there is no room for a pair and a cue, and the last step is
    asked for what it was shown.
    """
    generator = torch.Generator().manual_seed(seed)
    bits = input_size - 2
    inputs = torch.zeros(steps, batch, input_size)
    targets = torch.zeros(steps, batch, bits)
    mask = torch.zeros(steps, batch)
    pairs = (steps - 2) // 2
    shown = random_bits(steps, batch, bits, generator)
    if pairs < 1:
        inputs[..., :bits] = shown
        targets[-1], mask[-1] = shown[-1], 1
    else:
        inputs[: 2 * pairs, :, :bits] = shown[: 2 * pairs]
        inputs[0 : 2 * pairs : 2, :, bits] = 1
        asked = torch.randint(0, pairs, (batch,), generator=generator)
        element = torch.arange(batch)
        inputs[2 * pairs, :, :bits] = shown[2 * asked, element]
        inputs[2 * pairs, :, bits + 1] = 1
        targets[2 * pairs + 1] = shown[2 * asked + 1, element]
        mask[2 * pairs + 1] = 1
    return inputs.to(device, dtype), targets.to(device, dtype), mask.to(device, dtype)
