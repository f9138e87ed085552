"""What a task is: batches of one level of difficulty, and how an answer is scored."""

import math
from abc import ABC, abstractmethod
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


class Task(ABC):
    """A family of sequences. Immutable: everything random comes from the generator handed in."""

    name: str
    input_size: int  # X
    output_size: int  # Y: bits of an answer, or the number of classes
    answer: Literal["bits", "class"]
    level_means: str  # what one unit of the level is, as "pairs"
    first_level: int = 1  # lowest h of a curriculum
    levels: tuple[int, int]  # the paper's range of levels, trained on when there is no curriculum

    @abstractmethod
    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """B sequences of one level; the same generator state gives the same batch."""

    @abstractmethod
    def steps(self, level: int) -> int:
        """T of a sequence of this level (the longest, where they differ)."""

    def chance(self, level: int) -> float:
        """Error of a guess that knows the task and not the sequence: bits a sequence, or the share of wrong answers."""
        raise NotImplementedError

    def loss(self, y: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy in bits for each bit (or class) asked for; y [T, B, >= Y] are logits."""
        return (self.losses(y, batch) * batch.mask).sum() / batch.mask.sum() / math.log(2)

    def losses(self, y: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy in nats of each step [T, B]: the mean over the bits of an answer, or of its class."""
        logits = y[..., : self.output_size]
        if self.answer == "bits":
            return functional.binary_cross_entropy_with_logits(logits, batch.targets, reduction="none").mean(-1)
        return functional.cross_entropy(logits.permute(1, 2, 0), batch.targets.T, reduction="none").T

    def wrong(self, y: Tensor, batch: Batch) -> Tensor:
        """What is wrong at each step [T, B]: the number of wrong bits, or 1 for a wrong class; 0 where no answer is due."""
        logits = y[..., : self.output_size]
        if self.answer == "bits":
            return ((logits > 0) != (batch.targets > 0.5)).sum(-1) * batch.mask
        return (logits.argmax(-1) != batch.targets) * batch.mask
