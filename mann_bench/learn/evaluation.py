"""After training: errors on held-out sequences, at the levels trained on and beyond, with the same sequences for every model and seed; and
on others, at the highest level trained on, by which one run can be chosen among several without a look at the test.
"""

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mann_bench.learn.record import Evaluation, LearningCase
from mann_bench.learn.trainer import TEST, VALIDATION, generator_of
from mann_bench.run.worker import is_out_of_memory
from mann_bench.suites.tasks import Batch, Task

SEQUENCES = 256  # a level, if time allows
BEYOND = (1, 2, 5, 10)  # times the highest level trained on
CHUNK_STEPS = 1024  # a longer sequence is run in parts, so that memory does not grow with it


def levels_to_test(case: LearningCase, task: Task, highest: int) -> list[int]:
    """The lowest and the middle level trained on, the highest, and multiples of it as far as the task has them."""
    lowest = case.levels[0]
    wanted = {lowest, (lowest + highest) // 2, *(times * highest for times in BEYOND)}
    return sorted(filter(task.has_level, wanted))


def validate(model: Any, case: LearningCase, task: Task, level: int, seconds: float) -> Evaluation | None:
    """The error of all answers on sequences that are neither trained on nor the test's; None where the task has none of this level."""
    apart = task.validation()
    return evaluate(model, case, apart, level, seconds, VALIDATION)[0] if apart is not None and apart.has_level(level) else None


def evaluate(model: Any, case: LearningCase, held_out: Task, level: int, seconds: float, purpose: int = TEST) -> list[Evaluation]:
    """Errors at one level, of all answers and of each group; what takes more memory or time than there is, is recorded without an error.

    A held-out part that has an end is counted whole, whatever time that takes: to stop short would leave out sequences of some kinds.
    """
    counts = Counts()
    every = held_out.every(case.batch)
    deadline = math.inf if every is not None else time.monotonic() + seconds
    try:
        for batch in drawn(case, held_out, level, purpose) if every is None else every:
            y = outputs(model, batch.inputs.to(case.device), deadline)
            if y is None:
                break
            counts.add(held_out, y.cpu(), batch)
            if time.monotonic() > deadline:
                break
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return [Evaluation(level=level, error=None, sequences=0, reason="out of memory")]
    if not counts.sequences:
        return [Evaluation(level=level, error=None, sequences=0, reason=f"a batch takes more than {seconds:.0f} s")]
    return counts.evaluations(held_out, level)


def drawn(case: LearningCase, held_out: Task, level: int, purpose: int) -> Iterator[Batch]:
    """`SEQUENCES` of them, by fixed seeds."""
    for number in range(-(-SEQUENCES // case.batch)):
        yield held_out.sample(level, case.batch, generator_of(purpose, level, number))


def outputs(model: Any, inputs: Tensor, deadline: float) -> Tensor | None:
    """inputs [T, B, X] -> y [T, B, Y], from an empty memory; None if it is not done by the deadline."""
    state = model.initial_state(inputs.shape[1]) if hasattr(model, "initial_state") else None
    parts = []
    with torch.no_grad():
        for part in inputs.split(CHUNK_STEPS):
            y, state = model(part, state)
            parts.append(y)
            if time.monotonic() > deadline and sum(map(len, parts)) < len(inputs):
                return None
    return torch.cat(parts)


@dataclass
class Counts:
    """Wrong bits or answers and what they are of, all and by group."""

    sequences: int = 0
    wrong: dict[int | None, float] = field(default_factory=lambda: defaultdict(float))
    due: dict[int | None, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, task: Task, y: Tensor, batch: Batch) -> None:
        """Count a batch."""
        wrong, due = task.wrong(y, batch), task.due(batch)
        self.sequences += y.shape[1]
        self.wrong[None] += float(wrong.sum())
        self.due[None] += float(due.sum())
        if batch.group is not None:
            for group in batch.group[due > 0].unique().tolist():
                self.wrong[group] += float(wrong[batch.group == group].sum())
                self.due[group] += float(due[batch.group == group].sum())

    def evaluations(self, task: Task, level: int) -> list[Evaluation]:
        """All answers first, then the groups in order."""
        found = []
        for group in itertools.chain([None], sorted(group for group in self.due if group is not None)):
            of = self.sequences if task.answer == "bits" else self.due[group]
            chance = None if group is None else task.chance_of(group)
            found.append(
                Evaluation(
                    level=level,
                    group=group,
                    error=self.wrong[group] / max(1.0, of),
                    chance=task.chance(level) if chance is None else chance,
                    sequences=self.sequences,
                )
            )
        return found
