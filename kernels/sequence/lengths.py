"""How many of the steps of a padded batch each element has."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Lengths:
    """Elements of a batch of T steps that end early, or do not begin: each does nothing from its length on.

    Attributes:
        each: from 0 to T for each of the B elements.
        steps: T.
    """

    each: tuple[int, ...]
    steps: int

    def order(self) -> list[int]:
        """List the elements, the longest first, of equal ones the first."""
        return sorted(range(len(self.each)), key=lambda element: -self.each[element])

    def past(self, device: torch.device) -> Tensor:
        """Whether an element has ended before a step, bool [T, B]."""
        return torch.arange(self.steps, device=device).unsqueeze(1) >= torch.tensor(self.each, device=device)

    def part(self, first: int, steps: int) -> "Lengths | None":
        """The lengths within `steps` steps from `first` on; None if all elements have them all."""
        each = tuple(min(max(length - first, 0), steps) for length in self.each)
        return Lengths(each, steps) if min(each) < steps else None

    def segments(self) -> Iterator[tuple[int, int, int]]:
        """Divide the steps where elements end, if the longest come first: (first step, steps, elements that have them)."""
        first = 0
        for length in sorted(set(self.each) - {0}):
            yield first, length - first, sum(each >= length for each in self.each)
            first = length

    def buffers(self, device: torch.device) -> dict[str, Tensor]:
        """What native kernels read, by the names of `csrc/arguments.h`."""
        return {
            "lengths": torch.tensor(self.each, dtype=torch.int64, device=device),
            "order": torch.tensor(self.order(), dtype=torch.int64, device=device),
        }


class RunningSteps:
    """Of tensors [T, B, ...] the steps that elements have: products around a recurrence are of them alone.

    Args:
        lengths: None: all elements have all T steps.
        steps: T.
        batch: B.
    """

    def __init__(self, lengths: Lengths | None, steps: int, batch: int, device: torch.device) -> None:
        self.lengths, self.axes, self.device = lengths, (steps, batch), device

    @functools.cached_property
    def numbers(self) -> Tensor | None:
        """The number t B + b of each, int64 [n]; None: all."""
        if self.lengths is None:
            return None
        return (~self.lengths.past(torch.device("cpu"))).flatten().nonzero()[:, 0].to(self.device)

    def take(self, of_steps: Tensor) -> Tensor:
        """Take their rows [n, ...] from [T, B, ...]."""
        rows = of_steps.flatten(0, 1)
        return rows if self.numbers is None else rows.index_select(0, self.numbers)

    def spread(self, rows: Tensor, *, zeros: bool) -> Tensor:
        """Put rows [n, ...] back into their places in [T, B, ...]; the others are zeros, or unset."""
        if self.numbers is None:
            return rows.view(*self.axes, *rows.shape[1:])
        shape = (math.prod(self.axes), *rows.shape[1:])
        whole = rows.new_zeros(shape) if zeros else rows.new_empty(shape)
        return whole.index_copy_(0, self.numbers, rows).view(*self.axes, *rows.shape[1:])
