"""What a caller says of single batch elements: the lengths of padded sequences, and which elements to reset."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mann_bench.kernels.sequence.lengths import Lengths


def check_lengths(lengths: Tensor | Sequence[int] | None, x: Tensor) -> Lengths | None:
    """Read the lengths of x [T, B, X] on the host; None if no element ends early. ValueError unless they are B whole numbers 0..T."""
    if lengths is None:
        return None
    steps, batch = x.shape[:2]
    whole = not isinstance(lengths, Tensor) or (lengths.dim() == 1 and not lengths.is_floating_point() and lengths.dtype != torch.bool)
    each = tuple(lengths.tolist() if isinstance(lengths, Tensor) else lengths) if whole else ()
    if len(each) != batch or not all(type(length) is int and 0 <= length <= steps for length in each):
        got = f"{lengths.dtype} {list(lengths.shape)}" if not whole and isinstance(lengths, Tensor) else list(each)
        raise ValueError(f"lengths: expected {batch} whole numbers from 0 to T = {steps}, one for each batch element of x, got {got}")
    return Lengths(each, steps) if min(each) < steps else None


def check_elements(elements: Tensor | Sequence[int], batch: int) -> list[int]:
    """Read the numbers of batch elements, or a mask bool [B] of them, on the host; ValueError unless they are distinct and 0..B-1."""
    given = elements.tolist() if isinstance(elements, Tensor) else list(elements)
    if isinstance(given, list) and len(given) == batch and all(type(number) is bool for number in given):
        return [number for number, chosen in enumerate(given) if chosen]
    sound = isinstance(given, list) and all(type(number) is int and 0 <= number < batch for number in given)
    if not sound or len(set(given)) < len(given):
        raise ValueError(f"elements: expected distinct numbers from 0 to {batch - 1}, or {batch} times true or false, got {given}")
    return given
