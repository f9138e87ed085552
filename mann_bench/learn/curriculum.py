"""Curriculum: the level of the next batch, and whether training has reached its goal, judged by the losses of the last batches."""

from collections import deque
from typing import TypedDict

import torch

from mann_bench.learn.record import LearningCase


class CurriculumState(TypedDict):
    """The curriculum's part of a checkpoint."""

    level: int
    recent: list[float]


class Curriculum:
    """Level ~ U(lowest, h). h is the highest level, or with an exponential curriculum doubles towards it (Rae et al. 2016, section 4.3)."""

    def __init__(self, case: LearningCase) -> None:
        self.case = case
        self.lowest, self.highest = case.levels
        self.level = self.highest if case.curriculum == "none" else min(max(case.first_level, self.lowest), self.highest)  # h
        self.recent: deque[float] = deque(maxlen=case.patience)  # losses of the last batches, at most `patience`, since h changed

    def draw_level(self, generator: torch.Generator) -> int:
        """Draw the level of a batch."""
        return int(torch.randint(self.lowest, self.level + 1, (), generator=generator))

    def add_loss(self, loss: float) -> None:
        """Add the loss of a batch. h doubles when the mean loss of the last `patience` batches at this h is under the threshold."""
        self.recent.append(loss)
        if self.level < self.highest and self.mean_loss_under(self.case.curriculum_threshold):
            self.level = min(2 * self.level, self.highest)
            self.recent.clear()

    def mean_loss(self) -> float:
        """Mean of the recent losses; infinite before the first."""
        return sum(self.recent) / len(self.recent) if self.recent else float("inf")

    def mean_loss_under(self, threshold: float) -> bool:
        """Whether `patience` batches at this h have a mean loss under the threshold."""
        return len(self.recent) == self.case.patience and self.mean_loss() < threshold

    def at_goal(self) -> bool:
        """Whether the highest level is learned."""
        return self.level == self.highest and self.mean_loss_under(self.case.goal)

    def state(self) -> CurriculumState:
        return {"level": self.level, "recent": list(self.recent)}

    def restore(self, state: CurriculumState) -> None:
        self.level = state["level"]
        self.recent = deque(state["recent"], maxlen=self.case.patience)
