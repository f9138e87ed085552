"""Evaluation after training: errors on held-out sequences, the same for every model and seed.

The test is made at the levels trained on and beyond. The validation, on other sequences at the highest level trained on, serves to choose
one of several runs without using the test.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic  # a model may replace that of the module

import torch
from torch import Tensor, nn

from mann_bench.learn.memory_size import rows_written
from mann_bench.learn.record import Evaluation, LearningCase
from mann_bench.learn.trainer import TEST, VALIDATION, Trainer, build, generator_of, make_state, memory_rows
from mann_bench.models import MANNState, State
from mann_bench.models.mann import MANN
from mann_bench.models.sparse.shared import SharedMemory
from mann_bench.run.worker import is_out_of_memory
from mann_bench.suites.tasks import Batch, Task

Model = Callable[[Tensor, object], tuple[Tensor, object]]  # (inputs [T, B, X], state) -> y [T, B, Y], state

SEQUENCES = 256  # sequences of each level, if time allows
LEVEL_FACTORS = (1, 2, 5, 10)  # test levels, as multiples of the highest level trained on
CHUNK_STEPS = 1024  # longer sequences run in chunks, so that memory does not grow with their length


def levels_to_test(case: LearningCase, task: Task, highest: int) -> list[int]:
    """The lowest, middle and highest level trained on and multiples of the highest, as far as the task has them."""
    lowest = case.levels[0]
    levels = {lowest, (lowest + highest) // 2, *(factor * highest for factor in LEVEL_FACTORS)}
    return sorted(filter(task.has_level, levels))


def model_to_test(trainer: Trainer) -> nn.Module:
    """The trained model; where it is tested with another index, one with that index and its parameters."""
    case = trainer.case
    if case.test_index is None:
        return trainer.model
    model = build(case.model_copy(update={"index": case.test_index}), trainer.task).to(case.device)
    model.load_state_dict(trainer.model.state_dict())
    return model


class EmptyStates:
    """The empty states that held-out sequences start from. A memory that is changed in place is not made anew, but emptied after each use.

    Args:
        state: an empty one that nobody else uses, if there is one.
    """

    def __init__(self, model: Model, state: State | None = None) -> None:
        self.model, self.state = model, state

    def take(self, batch: int) -> object:
        """Return a state of so many elements; None if the model has none."""
        state, self.state = self.state, None
        if isinstance(state, MANNState) and len(state.controller.hidden) == batch:
            return state
        del state  # before another is made
        return make_state(self.model, batch)

    def give_back(self, state: object) -> None:
        """Empty a state in which sequences have ended, if its memory was changed in place.

        One element after the other: a reset first copies what it overwrites, and of all elements of long sequences that would be gigabytes.
        """
        if isinstance(self.model, MANN) and isinstance(state, MANNState) and isinstance(state.memory, SharedMemory):
            for element in range(len(state.controller.hidden)):
                state = self.model.reset_state(state, [element])
            self.state = state


def validate(
    model: Model, case: LearningCase, task: Task, level: int, seconds: float, states: EmptyStates | None = None
) -> Evaluation | None:
    """Measure the error of all answers on validation sequences; None where the task has none of this level."""
    validation = task.validation()
    if validation is None or not validation.has_level(level):
        return None
    return evaluate(model, case, validation, level, seconds, VALIDATION, states)[0]


def evaluate(
    model: Model,
    case: LearningCase,
    held_out: Task,
    level: int,
    seconds: float,
    purpose: int = TEST,
    states: EmptyStates | None = None,
) -> list[Evaluation]:
    """Measure errors at one level.

    Args:
        held_out: draws sequences that the model was not trained on.
        seconds: time limit. It does not hold for a held-out set with an end: to stop early would leave out sequences of some kinds.
        purpose: `TEST` or `VALIDATION`, which have different sequences.
        states: of the model, where its memory starts empty. Default: new ones.

    Returns:
        The error of all answers, then of each group. Where memory or time runs out: one entry without an error, with the reason.
    """
    counts = Counts()
    whole_set = held_out.every(case.batch)
    batches = sample_batches(case, held_out, level, purpose) if whole_set is None else whole_set
    deadline = monotonic() + seconds if whole_set is None else math.inf
    states, rows = states or EmptyStates(model), memory_rows(case, purpose)
    try:
        for batch in batches:
            inputs = batch.inputs.to(case.device)
            state = make_state(model, inputs.shape[1], **rows) if rows else states.take(inputs.shape[1])
            y, state = run_in_chunks(model, inputs, deadline, state)
            if not rows:
                states.give_back(state)
            if y is None:
                break
            counts.add(held_out, y.cpu(), batch)
            if monotonic() > deadline:
                break
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return [Evaluation(level=level, error=None, sequences=0, reason="out of memory")]
    if not counts.sequences:
        return [Evaluation(level=level, error=None, sequences=0, reason=f"a batch takes more than {seconds:.0f} s")]
    return counts.evaluations(held_out, level, rows_written(case, held_out, level))


def sample_batches(case: LearningCase, held_out: Task, level: int, purpose: int) -> Iterator[Batch]:
    """Draw `SEQUENCES` sequences (rounded up to whole batches) from fixed seeds."""
    for number in range(-(-SEQUENCES // case.batch)):
        yield held_out.sample(level, case.batch, generator_of(purpose, level, number))


def run_in_chunks(model: Model, inputs: Tensor, deadline: float, state: object = None) -> tuple[Tensor | None, object]:
    """Run sequences `CHUNK_STEPS` at a time: inputs [T, B, X] -> y [T, B, Y] and the state after them; without y if the deadline passes."""
    outputs = []
    with torch.no_grad():
        for chunk in inputs.split(CHUNK_STEPS):
            y, state = model(chunk, state)
            outputs.append(y)
            if monotonic() > deadline and sum(map(len, outputs)) < len(inputs):
                return None, state
    return torch.cat(outputs), state


@dataclass
class Counts:
    """Wrong bits or answers, and the answers due, by group; group None counts all."""

    sequences: int = 0
    wrong: dict[int | None, float] = field(default_factory=lambda: defaultdict(float))
    due: dict[int | None, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, task: Task, y: Tensor, batch: Batch) -> None:
        """Count a batch; y [T, B, Y]."""
        wrong, due = task.wrong(y, batch), task.due(batch)
        self.sequences += y.shape[1]
        self.wrong[None] += float(wrong.sum())
        self.due[None] += float(due.sum())
        if batch.group is not None:
            for group in batch.group[due > 0].unique().tolist():
                self.wrong[group] += float(wrong[batch.group == group].sum())
                self.due[group] += float(due[batch.group == group].sum())

    def evaluations(self, task: Task, level: int, rows: int | None) -> list[Evaluation]:
        """All answers first, then the groups in order. Errors are wrong bits a sequence, or the share of wrong answers."""
        evaluations = []
        for group in itertools.chain([None], sorted(group for group in self.due if group is not None)):
            total = self.sequences if task.answer == "bits" else self.due[group]
            chance = None if group is None else task.chance_of(group)
            evaluations.append(
                Evaluation(
                    level=level,
                    group=group,
                    error=self.wrong[group] / max(1.0, total),
                    chance=task.chance(level) if chance is None else chance,
                    sequences=self.sequences,
                    rows_written=rows,
                )
            )
        return evaluations
