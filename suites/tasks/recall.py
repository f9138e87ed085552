"""Associative recall: key/value pairs, then a cue, which is one of the keys; due is its value (Rae et al. 2016, sections 4.2 and 4.3)."""

import torch
from torch import Tensor

from mann_bench.suites.tasks.task import Batch, Task, check_option, random_bits, uniform, zeros


class Recall(Task):
    """Level = number of pairs. The keys of a sequence differ, so that there is one answer.

    `together=1`: key and value come in one step. `together=0`: the key in one step and its value in the next. The last two channels of
    the input flag a key and the cue.

    | steps | inputs | channel X - 2 | channel X - 1 | due |
    |---|---|---|---|---|
    | level, or 2 level | key and value, or key, value, ... | 1 with a key | | |
    | 1 | cue | | 1 | |
    | 1 | | | | value |
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
        return (1 if self.together else 2) * level + 2

    def chance(self, level: int) -> float:
        return self.value_bits / 2

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """inputs [T, B, X], targets [T, B, value_bits], mask [T, B]."""
        self.check_level(level)
        keys = distinct_vectors(level, batch, self.key_bits, generator)
        values = random_bits(level, batch, self.value_bits, generator)
        cued = torch.randint(0, level, (batch,), generator=generator, device="cpu")
        element = torch.arange(batch, device="cpu")
        sequences, flags = self.blank(self.steps(level), batch), self.input_size - 2
        shown, cue = sequences.inputs[:-2], sequences.inputs[-2]
        if self.together:
            shown[..., : self.key_bits], shown[..., self.key_bits : flags], shown[..., flags] = keys, values, 1
        else:
            shown[0::2, :, : self.key_bits], shown[1::2, :, : self.value_bits], shown[0::2, :, flags] = keys, values, 1
        cue[:, : self.key_bits], cue[:, flags + 1] = keys[cued, element], 1
        sequences.targets[-1], sequences.mask[-1] = values[cued, element], 1
        return sequences


def distinct_vectors(count: int, batch: int, bits: int, generator: torch.Generator) -> Tensor:
    """Draw random bit vectors of which no two of a batch element are equal, float [count, B, bits]."""
    if 2 * count > 2**bits:
        numbers = uniform(batch, 2**bits, generator=generator).argsort(1)[:, :count]
    else:
        numbers = torch.randint(2**bits, (batch, count), generator=generator, device="cpu")
        while (repeated := _repeated(numbers)).any():
            numbers[repeated] = torch.randint(2**bits, (int(repeated.sum()),), generator=generator, device="cpu")
    vectors = zeros(count, batch, bits)
    for bit in range(bits):  # one at a time: of all at once whole numbers of 64 bits would take four times the memory of the result
        vectors[..., bit] = numbers.T >> bit & 1
    return vectors


def _repeated(numbers: Tensor) -> Tensor:
    """Which numbers [B, n] repeat an earlier one of their row: bool [B, n]."""
    ordered, order = numbers.sort(1)
    same = torch.zeros_like(numbers, dtype=torch.bool)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return torch.zeros_like(same).scatter(1, order, same)


def associative_recall(
    batch: int, steps: int, input_size: int, *, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """The sequences of benchmarks: recall with key and value in steps of their own, cut to any number of steps and any width.

    Each step but the last shows one vector of random bits: key, value, key, value, ..., cue; then comes the answer. The last two input
    channels flag a key and the cue. With an odd number of steps the last is empty. Fewer than four steps have no room for a pair and a
    cue: there, due in the last step is what it shows.

    Returns:
        inputs [T, B, X], targets [T, B, X - 2] and mask [T, B], which is 1 at the answer's step.
    """
    generator = torch.Generator().manual_seed(seed)
    bits = input_size - 2
    inputs, targets, mask = zeros(steps, batch, input_size), zeros(steps, batch, bits), zeros(steps, batch)
    pairs = (steps - 2) // 2
    vectors = random_bits(steps, batch, bits, generator)
    if pairs < 1:
        inputs[..., :bits] = vectors
        targets[-1], mask[-1] = vectors[-1], 1
    else:
        cue, answer = 2 * pairs, 2 * pairs + 1  # steps
        inputs[:cue, :, :bits] = vectors[:cue]
        inputs[0:cue:2, :, bits] = 1
        cued = torch.randint(0, pairs, (batch,), generator=generator, device="cpu")
        element = torch.arange(batch, device="cpu")
        inputs[cue, :, :bits], inputs[cue, :, bits + 1] = vectors[2 * cued, element], 1
        targets[answer], mask[answer] = vectors[2 * cued + 1, element], 1
    return inputs.to(device, dtype), targets.to(device, dtype), mask.to(device, dtype)
