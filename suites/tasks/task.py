"""What a task is: batches of one level of difficulty, and how an answer is scored. One of your own: docs/learning.md."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Batch:
    """Sequences of one level.

    inputs [T, B, X] float; targets: bits [T, B, Y] float (0 or 1), or classes [T, B] int64; mask [T, B] float, 1 where an answer is due;
    group [T, B] int64 or None: what answers are counted apart by (an instance number in Omniglot, a task number in bAbI).
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor
    group: Tensor | None = None

    def to(self, device: str) -> "Batch":
        """The same on a device."""
        group = None if self.group is None else self.group.to(device)
        return Batch(self.inputs.to(device), self.targets.to(device), self.mask.to(device), group)


class Task(ABC):
    """A family of sequences. Immutable: everything random comes from the generator handed in.

    Sizes and other options are keyword arguments of the constructor, whole numbers, each with a default.
    """

    name: str
    input_size: int  # X
    output_size: int  # Y: bits of an answer, or the number of classes
    answer: Literal["bits", "class"]
    level_means: str  # what one unit of the level is, as "pairs"
    levels: tuple[int, int]  # the paper's range of levels, trained on when there is no curriculum
    first_level: int = 1  # the lowest, where a curriculum begins
    last_level: int | None = None  # the highest; None: there are any
    fingerprint: str | None = None  # of the data that sequences are drawn from; None where they are drawn at random

    @abstractmethod
    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """B sequences of one level; the same generator state gives the same batch."""

    @abstractmethod
    def steps(self, level: int) -> int:
        """T of a sequence of this level (the longest, where they differ)."""

    def chance(self, level: int) -> float | None:
        """Error of the best guess that knows when answers are due and nothing of what was shown: bits a sequence, or the share of wrong
        answers; None: unknown.
        """
        return None

    def chance_of(self, group: int) -> float | None:
        """The same among the answers of one group; None: as among all."""
        return None

    def held_out(self) -> "Task":
        """The same task on data never trained on; itself where every sequence is drawn anew."""
        return self

    def validation(self) -> "Task | None":
        """The same task on data that are neither trained on nor `held_out`, to choose a run by; None where there are none."""
        return self if self.held_out() is self else None

    def every(self, batch: int) -> Iterator[Batch] | None:
        """All sequences there are, each once; None where there is no end of them."""
        return None

    def has_level(self, level: int) -> bool:
        """Whether there is such a level."""
        return level >= self.first_level and (self.last_level is None or level <= self.last_level)

    def check_level(self, level: int) -> None:
        """ValueError unless there is such a level."""
        if not self.has_level(level):
            most = "" if self.last_level is None else f" and at most {self.last_level}"
            raise ValueError(f"level: expected at least {self.first_level}{most} ({self.level_means}), got {level}")

    def loss(self, y: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy in bits for each bit (or class) asked for; y [T, B, >= Y] are logits."""
        return (self.losses(y, batch) * batch.mask).sum() / batch.mask.sum() / math.log(2)

    def losses(self, y: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy in nats of each step [T, B]: the mean over the bits of an answer, or of its class."""
        logits = y[..., : self.output_size]
        if self.answer == "bits":
            return functional.binary_cross_entropy_with_logits(logits, batch.targets, reduction="none").mean(-1)
        return functional.cross_entropy(logits.permute(1, 2, 0), batch.targets.T, reduction="none").T

    def due(self, batch: Batch) -> Tensor:
        """1 at each step [T, B] where `wrong` counts an answer, else 0; their number is what a share of wrong answers is of."""
        return batch.mask

    def wrong(self, y: Tensor, batch: Batch) -> Tensor:
        """What is wrong at each step [T, B]: the number of wrong bits, or 1 for a wrong class; 0 where no answer is due."""
        logits = y[..., : self.output_size]
        if self.answer == "bits":
            return ((logits > 0) != (batch.targets > 0.5)).sum(-1) * batch.mask
        return (logits.argmax(-1) != batch.targets) * batch.mask


def random_bits(steps: int, batch: int, bits: int, generator: torch.Generator) -> Tensor:
    """Fair bits, float [steps, B, bits]."""
    return torch.randint(0, 2, (steps, batch, bits), generator=generator).float()


def check_option(name: str, value: int, least: int, most: int | None = None) -> None:
    """ValueError unless an option of a task is a whole number from `least` to `most`."""
    if value < least or (most is not None and value > most):
        upto = "" if most is None else f" and at most {most}"
        raise ValueError(f"{name}: expected at least {least}{upto}, got {value}")
