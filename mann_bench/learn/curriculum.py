"""Which level the next batch is of, and when training has reached its goal, judged by the losses of the last batches."""

from collections import deque

import torch

from mann_bench.learn.record import LearningCase


class Curriculum:
    """Level ~ U(lowest, h). h is the highest level, or with an exponential curriculum doubles towards it (Rae et al. 2016, section 4.3)."""

    def __init__(self, case: LearningCase) -> None:
        self.case = case
        self.lowest, self.highest = case.levels
        self.level = self.highest if case.curriculum == "none" else min(max(case.first_level, self.lowest), self.highest)  # h
        self.recent: deque[float] = deque(maxlen=case.patience)  # losses since h changed

    def draw(self, generator: torch.Generator) -> int:
        """The level of a batch."""
        return int(torch.randint(self.lowest, self.level + 1, (), generator=generator))

    def note(self, loss: float) -> None:
        """Take the loss of a batch into account: h doubles when the mean of the last `patience` losses at this h is under the threshold."""
        self.recent.append(loss)
        if self.level < self.highest and self.judged() and self.mean() < self.case.curriculum_threshold:
            self.level = min(2 * self.level, self.highest)
            self.recent.clear()

    def judged(self) -> bool:
        """Whether there have been batches enough at this h to judge by."""
        return len(self.recent) == self.case.patience

    def mean(self) -> float:
        """Of the recent losses; infinite before the first."""
        return sum(self.recent) / len(self.recent) if self.recent else float("inf")

    def at_goal(self) -> bool:
        """Whether the highest level is learned."""
        return self.level == self.highest and self.judged() and self.mean() < self.case.goal

    def state(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"level": self.level, "recent": list(self.recent)}

    def restore(self, state: dict[str, object]) -> None:
        """From a checkpoint."""
        self.level, recent = state["level"], state["recent"]  # type: ignore[assignment]
        self.recent = deque(recent, maxlen=self.case.patience)  # type: ignore[call-overload]
