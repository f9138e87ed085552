"""Task sequences: seeded, batched, real inputs for benchmarks and training."""

import torch
from torch import Tensor


def associative_recall(
    batch: int, steps: int, input_size: int, *, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Key/value pairs, then a cue key; the target is that pair's value (Rae et al. 2016, section 4.2).

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
    shown = torch.randint(0, 2, (steps, batch, bits), generator=generator).float()
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


def copy(
    batch: int, length: int, bits: int, *, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Random bits, a delimiter, then their copy with no input (Graves et al. 2014, section 4.1).

    Returns inputs [T, B, bits + 2] with T = 2 length + 1, targets [T, B, bits] and mask [T, B] (1 where the copy is due). The two channels
    after the bits flag what is shown and the delimiter.
    """
    generator = torch.Generator().manual_seed(seed)
    shown = torch.randint(0, 2, (length, batch, bits), generator=generator).float()
    inputs = torch.zeros(2 * length + 1, batch, bits + 2)
    targets = torch.zeros(2 * length + 1, batch, bits)
    mask = torch.zeros(2 * length + 1, batch)
    inputs[:length, :, :bits], inputs[:length, :, bits], inputs[length, :, bits + 1] = shown, 1, 1
    targets[length + 1 :], mask[length + 1 :] = shown, 1
    return inputs.to(device, dtype), targets.to(device, dtype), mask.to(device, dtype)


def pair_recall(
    batch: int, pairs: int, bits: int, *, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Associative recall with key and value in one step: pairs, a cue key, and in the step after it the value is due.

    Returns inputs [T, B, 2 bits + 2] (key, value, two flags) with T = pairs + 2, targets [T, B, bits] and mask [T, B].
    """
    generator = torch.Generator().manual_seed(seed)
    shown = torch.randint(0, 2, (pairs, batch, 2 * bits), generator=generator).float()
    asked, element = torch.randint(0, pairs, (batch,), generator=generator), torch.arange(batch)
    inputs = torch.zeros(pairs + 2, batch, 2 * bits + 2)
    targets = torch.zeros(pairs + 2, batch, bits)
    mask = torch.zeros(pairs + 2, batch)
    inputs[:pairs, :, : 2 * bits], inputs[:pairs, :, 2 * bits] = shown, 1
    inputs[pairs, :, :bits], inputs[pairs, :, 2 * bits + 1] = shown[asked, element, :bits], 1
    targets[pairs + 1], mask[pairs + 1] = shown[asked, element, bits:], 1
    return inputs.to(device, dtype), targets.to(device, dtype), mask.to(device, dtype)
