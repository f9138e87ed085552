"""One training run: one model, one task, one seed. Killed at any point it goes on from its last checkpoint to the same curve, bit for bit.

Everything random comes from (seed, step), so that step n is the same whenever and wherever it is made.
"""

import io
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mann_bench.data.case import Case
from mann_bench.data.registry import find_model
from mann_bench.data.store import write_atomically
from mann_bench.learn.curriculum import Curriculum
from mann_bench.learn.record import CurvePoint, LearningCase
from mann_bench.models import State
from mann_bench.suites.tasks import Task

POINT_BATCHES = 50  # batches of one point of the curve
TRAINING, TEST, VALIDATION = 0, 1, 2  # what a generator is for: no sequence is drawn for two of them


class DivergedError(ArithmeticError):
    """A loss or gradient is no finite number."""


class Trainer:
    """Model, optimizer and all that changes while they train; `run` goes on until the run's end."""

    def __init__(self, case: LearningCase, task: Task) -> None:
        torch.manual_seed(case.seed)
        self.case, self.task = case, task
        self.model: Any = build(case, task).to(case.device)
        self.optimizer = make_optimizer(case, list(self.model.parameters()))
        self.curriculum = Curriculum(case)
        self.step, self.wall_s, self.resumed, self.earlier_peak_bytes = 0, 0.0, 0, 0
        self.curve: list[CurvePoint] = []
        self.since_point = (0, 0.0, 0.0)  # batches, and the sums of their losses and errors
        self.reached: tuple[int, float] | None = None  # sequences and seconds until it was reached
        self.drawn_level = 0  # of the batch being run
        self.state: Any = None

    def run(
        self,
        checkpoint: Path,
        every_s: float = 60.0,
        tell: Callable[["Trainer"], None] = lambda trainer: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> str | None:
        """Train until "ok" (the goal) or "budget" (a limit), or None where `stop` said so.

        A checkpoint is written every `every_s` seconds and at the end. After each batch `tell` is called.
        Raises DivergedError, and what allocating too much raises.
        """
        began = saved = time.monotonic()
        before_s = self.wall_s
        while (ending := self.ending()) is None and not stop():
            self.train_batch()
            now = time.monotonic()
            self.wall_s = before_s + now - began
            self.note_progress()
            tell(self)
            if now - saved >= every_s:
                self.save(checkpoint)
                saved = time.monotonic()
        self.save(checkpoint)  # before the last point is closed: a run that goes on with a larger limit has it where it would have been
        if ending is not None:
            self.close_point()
        return ending

    def ending(self) -> str | None:
        """Why training is over, or None."""
        if self.reached is not None and self.case.stop_at_goal:
            return "ok"
        if self.case.is_over(self.sequences, self.wall_s):
            return "ok" if self.reached is not None else "budget"
        return None

    @property
    def sequences(self) -> int:
        """Trained on so far."""
        return self.step * self.case.batch

    def train_batch(self) -> None:
        """One batch of one level: forward, backward, update."""
        generator = generator_of(TRAINING, self.case.seed, self.step)
        self.drawn_level = self.curriculum.draw(generator)
        batch = self.task.sample(self.drawn_level, self.case.batch, generator).to(self.case.device)
        y, _ = self.model(batch.inputs, self.start())
        loss = self.task.loss(y, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.case.clip)
        bits = float(loss.detach())
        if not (math.isfinite(bits) and math.isfinite(float(norm))):
            raise DivergedError(f"loss {bits}, gradient norm {float(norm)} after {self.sequences:,} sequences, at level {self.drawn_level}")
        self.optimizer.step()
        wrong = float(self.task.wrong(y.detach(), batch).sum())
        asked = self.case.batch if self.task.answer == "bits" else float(self.task.due(batch).sum())
        count, losses, errors = self.since_point
        self.since_point = (count + 1, losses + bits, errors + wrong / max(1.0, asked))
        self.step += 1
        self.curriculum.note(bits)

    def start(self) -> Any:
        """The state that a sequence begins with. A memory is allocated once: backward brings it back to its start. A state that depends on
        parameters, and one that is not known to be brought back, is made for every batch.
        """
        reusable = isinstance(self.state, State) and not any(tensor.requires_grad for tensor in self.state.tensors())
        if not reusable and hasattr(self.model, "initial_state"):
            self.state = self.model.initial_state(self.case.batch)
        return self.state

    def note_progress(self) -> None:
        """A point of the curve every `POINT_BATCHES` batches; the moment the goal is reached."""
        if self.since_point[0] == POINT_BATCHES:
            self.close_point()
        if self.reached is None and self.curriculum.at_goal():
            self.reached = (self.sequences, self.wall_s)

    def close_point(self) -> None:
        """Put the batches since the last point on the curve, if there are any."""
        count, losses, errors = self.since_point
        if count:
            point = CurvePoint(
                sequences=self.sequences,
                wall_s=round(self.wall_s, 3),
                level=self.curriculum.level,
                loss=losses / count,
                errors=errors / count,
            )
            self.curve.append(point)
            self.since_point = (0, 0.0, 0.0)

    def peak_bytes(self) -> int:
        """High-water mark of this process and those before it; on a GPU, of its memory."""
        if self.case.device.startswith("cuda"):
            return max(self.earlier_peak_bytes, torch.cuda.max_memory_allocated(self.case.device))
        unit = 1 if sys.platform == "darwin" else 1024
        return max(self.earlier_peak_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)

    def save(self, checkpoint: Path) -> None:
        """All that goes on, written whole or not at all."""
        content = {
            "run_id": self.case.run_id,
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
        torch.save(content, buffer)
        write_atomically(checkpoint, buffer.getvalue())

    def load(self, checkpoint: Path) -> None:
        """Go on where `save` was called."""
        content = load_checkpoint(checkpoint, self.case)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.curriculum.restore(content["curriculum"])
        torch.set_rng_state(content["random"])
        self.curve = [CurvePoint(**point) for point in content["curve"]]
        self.since_point, self.step, self.wall_s = tuple(content["since_point"]), content["step"], content["wall_s"]
        self.reached = tuple(content["goal"]) if content["goal"] else None
        self.resumed, self.earlier_peak_bytes = content["resumed"] + 1, content["peak_bytes"]


def load_checkpoint(checkpoint: Path, case: LearningCase) -> dict[str, Any]:
    """What `Trainer.save` wrote; ValueError if it is of another run."""
    content: dict[str, Any] = torch.load(checkpoint, map_location=case.device, weights_only=True)
    if content["run_id"] != case.run_id:
        raise ValueError(f"{checkpoint}: expected a checkpoint of run {case.run_id}, got one of {content['run_id']}; remove it")
    content["random"] = content["random"].cpu()
    return content


def generator_of(*numbers: int) -> torch.Generator:
    """A generator for these numbers and no others; torch alone would look at 32 bits of a seed only."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def build(case: LearningCase, task: Task) -> Any:
    """The model with the task's widths."""
    return find_model(case.model).build(benchmark_case(case), input_size=task.input_size, output_size=task.output_size)


def benchmark_case(case: LearningCase, **other: int) -> Case:
    """The benchmark case with the model and sizes of a training run, and with `other` fields."""
    names = ("model", "variant", "kernels", "index", "slots", "word_size", "heads", "reads", "hidden", "batch", "device", "threads", "seed")
    fields: dict[str, Any] = {name: getattr(case, name) for name in names}
    return Case(suite="learning", **fields, **other)


def make_optimizer(case: LearningCase, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Adam, or RMSProp as in Graves 2013 (centred, with momentum), which the NTM and SAM papers used."""
    if case.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=case.learning_rate, betas=(case.momentum, 0.999), fused=True)
    return torch.optim.RMSprop(parameters, lr=case.learning_rate, alpha=0.95, eps=1e-4, momentum=case.momentum, centered=True)
