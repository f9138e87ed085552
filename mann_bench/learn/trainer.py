"""One training run: one model, one task, one seed. A killed run resumes from its last checkpoint to the same curve, bit for bit.

All random numbers of step n come from (seed, n), so a step is the same whenever and wherever it runs.
"""

import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic  # a model may replace that of the module
from typing import Literal, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.data.fields import JsonObject
from mann_bench.data.files import remove_torn, write_atomically
from mann_bench.data.registry import find_model
from mann_bench.learn.curriculum import Curriculum, CurriculumState
from mann_bench.learn.optimizers import make_optimizer
from mann_bench.learn.record import CurvePoint, LearningCase
from mann_bench.measure.memory import peak_rss_bytes
from mann_bench.measure.workload import takes
from mann_bench.models import State
from mann_bench.run.worker import is_out_of_memory
from mann_bench.suites.tasks import Task

POINT_BATCHES = 50  # batches of one point of the curve
TRAINING, TEST, VALIDATION = 0, 1, 2  # first number of a generator's seed, so that no two purposes share a sequence


class DivergedError(ArithmeticError):
    """A loss or a gradient is infinite or NaN."""


class CheckpointError(ValueError):
    """A checkpoint that a run cannot go on from: the message names the file and says why."""


class Checkpoint(TypedDict):
    """All that a run needs to go on."""

    run_id: str
    case: NotRequired[JsonObject]  # of a `LearningCase`, for reports of runs under way; older checkpoints do not have it
    model: dict[str, Tensor]
    optimizer: dict[str, object]
    curriculum: CurriculumState
    random: Tensor
    curve: list[dict[str, float]]  # of `CurvePoint`
    since_point: tuple[int, float, float]
    step: int
    wall_s: float
    goal: tuple[int, float] | None
    resumed: int
    peak_bytes: int


class Trainer:
    """A model, its optimizer and all that changes while they train.

    Attributes:
        step: batches trained on so far.
        wall_s: seconds of training, those before a resume included.
        resumed: how often the run resumed from a checkpoint.
        curve: points of `POINT_BATCHES` batches each.
        reached: (sequences, seconds) at which the goal was reached.
        drawn_level: level of the current batch.
    """

    def __init__(self, case: LearningCase, task: Task) -> None:
        torch.manual_seed(case.seed)
        self.case, self.task = case, task
        self.model = build(case, task).to(case.device)
        refuse_fill(self.model, case)
        self.optimizer = make_optimizer(case, self.model.parameters())
        self.curriculum = Curriculum(case)
        self.step, self.wall_s, self.resumed, self.earlier_peak_bytes = 0, 0.0, 0, 0
        self.curve: list[CurvePoint] = []
        self.since_point = (0, 0.0, 0.0)  # batches since the last point, sums of their losses and errors
        self.reached: tuple[int, float] | None = None
        self.drawn_level = 0
        self.state: object = None  # the model's memory, kept between batches

    def run(
        self,
        checkpoint: Path,
        every_s: float = 60.0,
        report: Callable[["Trainer"], None] = lambda trainer: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Literal["ok", "budget"] | None:
        """Train until the goal, a limit, or a request to stop.

        Args:
            checkpoint: file that is written every `every_s` seconds and at the end.
            report: called after each batch.
            should_stop: asked before each batch.

        Returns:
            "ok" (goal reached), "budget" (limit reached), or None (stopped).

        Raises:
            DivergedError: and whatever an allocation that fails raises.
        """
        started = saved = monotonic()
        earlier_s = self.wall_s
        while (ending := self.ending()) is None and not should_stop():
            self.train_batch()
            now = monotonic()
            self.wall_s = earlier_s + now - started
            self.note_progress()
            report(self)
            if now - saved >= every_s:
                self.save(checkpoint)
                saved = monotonic()
        self.save(checkpoint)  # before the last point is closed: a run that resumes with a larger limit closes it later
        if ending is not None:
            self.close_point()
        return ending

    def ending(self) -> Literal["ok", "budget"] | None:
        """Why training is over; None while it is not."""
        if self.reached is not None and self.case.stop_at_goal:
            return "ok"
        if self.case.is_over(self.sequences, self.wall_s):
            return "ok" if self.reached is not None else "budget"
        return None

    @property
    def sequences(self) -> int:
        """Sequences trained on so far."""
        return self.step * self.case.batch

    def train_batch(self) -> None:
        """Train on one batch of one level: forward, backward, update."""
        generator = generator_of(TRAINING, self.case.seed, self.step)
        self.drawn_level = self.curriculum.draw_level(generator)
        batch = self.task.sample(self.drawn_level, self.case.batch, generator).to(self.case.device)
        lengths = {} if batch.lengths is None or not takes(self.model.forward, "lengths") else {"lengths": batch.lengths}
        y, _ = self.model(batch.inputs, self.initial_state(), **lengths)
        loss = self.task.loss(y, batch)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        make_dense(self.model)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.case.clip)
        bits = float(loss.detach())
        if not (math.isfinite(bits) and math.isfinite(float(norm))):
            raise DivergedError(f"loss {bits}, gradient norm {float(norm)} after {self.sequences:,} sequences, at level {self.drawn_level}")
        self.optimizer.step()
        wrong = float(self.task.wrong(y.detach(), batch).sum())
        answers = self.case.batch if self.task.answer == "bits" else float(self.task.due(batch).sum())
        batches, losses, errors = self.since_point
        self.since_point = (batches + 1, losses + bits, errors + wrong / max(1.0, answers))
        self.step += 1
        self.curriculum.add_loss(bits)

    def initial_state(self) -> object:
        """The state that a sequence starts from.

        The memory is allocated once: backward rolls it back to its start. A new state is made for every batch if it depends on
        parameters, or if the model is not known to roll it back.
        """
        if self.reusable_state is None:
            self.state = make_state(self.model, self.case.batch, **memory_rows(self.case, TRAINING))
        return self.state

    @property
    def reusable_state(self) -> State | None:
        """The state that the last sequence started from, if the next can start from it too."""
        return self.state if isinstance(self.state, State) and not any(tensor.requires_grad for tensor in self.state.tensors()) else None

    def release_state(self) -> State | None:
        """Give up the state: return it if it is empty, as a new one would be."""
        state = self.reusable_state if self.case.fill == "empty" and self.ending() is not None else None
        self.state = None
        return state

    def note_progress(self) -> None:
        """Add a point to the curve every `POINT_BATCHES` batches; note when the goal is reached."""
        if self.since_point[0] == POINT_BATCHES:
            self.close_point()
        if self.reached is None and self.curriculum.at_goal():
            self.reached = (self.sequences, self.wall_s)

    def close_point(self) -> None:
        """Add the batches since the last point to the curve, if there are any."""
        batches, losses, errors = self.since_point
        if batches:
            point = CurvePoint(
                sequences=self.sequences,
                wall_s=round(self.wall_s, 3),
                level=self.curriculum.level,
                loss=losses / batches,
                errors=errors / batches,
            )
            self.curve.append(point)
            self.since_point = (0, 0.0, 0.0)

    def peak_bytes(self) -> int:
        """Peak resident memory of this process and of those it resumed from; on a GPU, peak bytes allocated there."""
        if self.case.device.startswith("cuda"):
            return max(self.earlier_peak_bytes, torch.cuda.max_memory_allocated(self.case.device))
        return max(self.earlier_peak_bytes, peak_rss_bytes())

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        checkpoint: Checkpoint = {
            "run_id": self.case.run_id,
            "case": self.case.model_dump(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curriculum": self.curriculum.state(),
            "random": torch.get_rng_state(),
            "curve": [point.model_dump() for point in self.curve],
            "since_point": self.since_point,
            "step": self.step,
            "wall_s": self.wall_s,
            "goal": self.reached,
            "resumed": self.resumed,
            "peak_bytes": self.peak_bytes(),
        }
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(path, buffer.getvalue())

    def load(self, path: Path) -> None:
        """Restore what `save` wrote. After a CheckpointError the trainer may be half restored: make another."""
        checkpoint = load_checkpoint(path, self.case)
        try:
            self.model.load_state_dict(checkpoint["model"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.curriculum.restore(checkpoint["curriculum"])
            torch.set_rng_state(checkpoint["random"])
            self.curve = [CurvePoint.model_validate(point) for point in checkpoint["curve"]]
            self.since_point, self.step, self.wall_s = checkpoint["since_point"], checkpoint["step"], checkpoint["wall_s"]
            self.reached = checkpoint["goal"]
            self.resumed, self.earlier_peak_bytes = checkpoint["resumed"] + 1, checkpoint["peak_bytes"]
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            raise CheckpointError(f"{path}: expected the tensors of this model, got others; has its code changed?") from error


def make_dense(model: torch.nn.Module) -> None:
    """Replace sparse gradients, as of a table of which few rows are read: Adam and RMSProp take dense ones only."""
    for parameter in model.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()


def start_or_resume(case: LearningCase, task: Task, checkpoint: Path) -> tuple[Trainer, str | None]:
    """Make the trainer of a run, restored from its checkpoint if there is one.

    Returns:
        The trainer, and why the checkpoint could not be used, so that the run starts anew; None if it was used, or there is none.
    """
    remove_torn(checkpoint)
    trainer = Trainer(case, task)
    if not os.path.lexists(checkpoint):
        return trainer, None
    try:
        trainer.load(checkpoint)
    except CheckpointError as error:
        return Trainer(case, task), f"{error}; the run started anew"
    return trainer, None


def load_checkpoint(path: Path, case: LearningCase) -> Checkpoint:
    """Read what `Trainer.save` wrote. CheckpointError if the file is damaged, cannot be read, or is of another run."""
    try:
        checkpoint: Checkpoint = torch.load(path, map_location=case.device, weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file, some of which advise to run what is in it
        if is_out_of_memory(error):
            raise
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it is damaged, or no checkpoint"
        raise CheckpointError(f"{path}: expected a checkpoint, got a file that cannot be read: {reason}") from error
    if not isinstance(checkpoint, dict) or not Checkpoint.__required_keys__ <= checkpoint.keys():
        raise CheckpointError(f"{path}: expected a checkpoint of mann-bench, got a file of another program")
    if checkpoint["run_id"] != case.run_id:
        raise CheckpointError(f"{path}: expected a checkpoint of run {case.run_id}, got one of {checkpoint['run_id']}")
    checkpoint["random"] = checkpoint["random"].cpu()
    return checkpoint


def generator_of(*numbers: int) -> torch.Generator:
    """A generator seeded by all the numbers, mixed by numpy: `manual_seed` itself uses 32 bits only."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def build(case: LearningCase, task: Task) -> nn.Module:
    """Build the model with the task's input and output sizes."""
    entry = find_model(case.model)
    return entry.build(benchmark_case(case), input_size=task.input_size, output_size=task.output_size)


def benchmark_case(case: LearningCase, **other: int) -> Case:
    """The benchmark case with the model and sizes of a training run (all the fields that both have), and with `other` fields."""
    return Case(suite="learning", **case.model_dump(include=set(Case.model_fields) - {"fill"}), **other)


def memory_rows(case: LearningCase, purpose: int) -> dict[str, object]:
    """Arguments of `initial_state` for the rows that the memory starts with: others in the evaluation than in training. None if empty."""
    return {} if case.fill == "empty" else {"fill": case.fill, "seed": case.seed if purpose == TRAINING else -purpose}


def make_state(model: object, batch: int, **rows: object) -> object:
    """Make a state of so many elements, `rows` as of `memory_rows`; None if the model has none."""
    initial_state = getattr(model, "initial_state", None)
    return initial_state(batch, **rows) if initial_state else None


def refuse_fill(model: nn.Module, case: LearningCase) -> None:
    """UsageError if a run starts from a memory of random rows and the model does not take them."""
    initial_state = getattr(model, "initial_state", None)
    lacking = [name for name in memory_rows(case, TRAINING) if initial_state is None or not takes(initial_state, name)]
    if lacking:
        raise UsageError(
            f"model {case.model!r}: expected initial_state(batch, fill, seed), as the run asks for fill = {case.fill!r}, got one without "
            f"{' and '.join(lacking)}; add the arguments (docs/own-model.md), or leave fill out"
        )
