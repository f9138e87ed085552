"""Base class of tasks: batches of one level of difficulty, and how answers are scored. A task of your own: docs/learning.md."""

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
    """B sequences of one level."""

    inputs: Tensor  # [T, B, X] float
    targets: Tensor  # bits [T, B, Y] float (0 or 1), or classes [T, B] int64
    mask: Tensor  # [T, B] float, 1 where an answer is due
    group: Tensor | None = None  # [T, B] int64: errors are reported by group (instance number in Omniglot, task number in bAbI)
    lengths: Tensor | None = None  # [B] int64 on the CPU: steps of each sequence, whose inputs are padded to T; None: all have T

    def to(self, device: str) -> "Batch":
        """Copy the tensors to a device, but for the lengths, which models read on the host."""
        group = None if self.group is None else self.group.to(device)
        return Batch(self.inputs.to(device), self.targets.to(device), self.mask.to(device), group, self.lengths)


class Task(ABC):
    """Sequences of any level. A task is immutable: all random numbers come from the generator passed to `sample`.

    Batches are made on the CPU in float32 (`zeros`, `uniform`, `random_bits`): torch's defaults must not change them.

    Options, such as sizes, are keyword arguments of the constructor: whole numbers, each with a default.
    """

    name: str
    input_size: int  # X
    output_size: int  # Y: bits of an answer, or the number of classes
    answer: Literal["bits", "class"]
    level_means: str  # unit of the level, as "pairs"
    levels: tuple[int, int]  # the paper's range of levels, trained on without a curriculum
    first_level: int = 1  # the lowest level, where a curriculum starts
    last_level: int | None = None  # the highest level; None: no limit
    fingerprint: str | None = None  # identifies the data that sequences are drawn from; None where they are random bits

    @abstractmethod
    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """Draw B sequences of one level; the same generator state gives the same batch."""

    @abstractmethod
    def steps(self, level: int) -> int:
        """T of the longest sequence of a level."""

    def chance(self, level: int) -> float | None:
        """Error of the best guess that knows when answers are due but not what was shown: wrong bits a sequence, or the share of wrong
        answers. None: unknown.
        """
        return None

    def chance_of(self, group: int) -> float | None:
        """Chance among the answers of one group; None: as among all answers."""
        return None

    def held_out(self) -> "Task":
        """The task on its test data; itself where every sequence is random."""
        return self

    def validation(self) -> "Task | None":
        """The task on data that are neither trained on nor `held_out`, for the choice of a run; None where there are none."""
        return self if self.held_out() is self else None

    def every(self, batch: int) -> Iterator[Batch] | None:
        """All sequences of a finite task, each once, in batches of at most `batch`; None where they have no end."""
        return None

    def has_level(self, level: int) -> bool:
        """Whether the task has this level."""
        return level >= self.first_level and (self.last_level is None or level <= self.last_level)

    def check_level(self, level: int) -> None:
        """Raise ValueError unless the task has this level."""
        if not self.has_level(level):
            most = "" if self.last_level is None else f" and at most {self.last_level}"
            raise ValueError(f"level: expected at least {self.first_level}{most} ({self.level_means}), got {level}")

    def loss(self, y: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy in bits over all bits (or classes) due; y [T, B, >= Y] are logits."""
        due = batch.mask > 0
        logits, targets = y[due][:, : self.output_size], batch.targets[due]
        of_answer = functional.binary_cross_entropy_with_logits if self.answer == "bits" else functional.cross_entropy
        return of_answer(logits, targets) / math.log(2)

    def due(self, batch: Batch) -> Tensor:
        """1 at each step [T, B] where `wrong` counts an answer, else 0: the denominator of a share of wrong answers."""
        return batch.mask

    def wrong(self, y: Tensor, batch: Batch) -> Tensor:
        """Errors of each step [T, B]: the number of wrong bits, or 1 for a wrong class; 0 where no answer is due."""
        due = batch.mask > 0
        logits, targets = y[due][:, : self.output_size], batch.targets[due]
        wrong = ((logits > 0) != (targets > 0.5)).sum(-1) if self.answer == "bits" else logits.argmax(-1) != targets
        return torch.zeros_like(batch.mask).masked_scatter(due, wrong.to(batch.mask.dtype))

    def blank(self, steps: int, batch: int) -> Batch:
        """A batch of zeros, for a task whose answers are bits to fill in."""
        return Batch(zeros(steps, batch, self.input_size), zeros(steps, batch, self.output_size), zeros(steps, batch))


def random_bits(steps: int, batch: int, bits: int, generator: torch.Generator) -> Tensor:
    """Draw fair bits, float [steps, B, bits]."""
    return torch.randint(0, 2, (steps, batch, bits), generator=generator, device="cpu").float()


def zeros(*shape: int) -> Tensor:
    """Make what a batch starts from: float32 on the CPU, whatever torch's defaults are."""
    return torch.zeros(shape, dtype=torch.float32, device="cpu")


def uniform(*shape: int, generator: torch.Generator) -> Tensor:
    """Draw from U(0, 1), float32 on the CPU, whatever torch's defaults are."""
    return torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")


def check_option(name: str, value: int, least: int, most: int | None = None) -> None:
    """Raise ValueError unless an option of a task is from `least` to `most`."""
    if value < least or (most is not None and value > most):
        upto = "" if most is None else f" and at most {most}"
        raise ValueError(f"{name}: expected at least {least}{upto}, got {value}")
