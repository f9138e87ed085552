"""The process of one training run: one command comes in, progress and then a result go out, all as JSON lines.

    {"case": {...}, "data": null, "checkpoint": "RUN/checkpoints/ID.pt", "every_s": 60, "evaluation_s": 60}

{"progress": {"sequences": 12800, "level": 8, "loss": 0.31, "rate": 900.0}}    twice a second at most
{"evaluating": 80}                                                             the level
{"stopped": true}                                                              after SIGTERM, with a checkpoint
{"result": {...}}                                                              fields of a `LearningResult`
{"disk": "No space left on device"}                                            no checkpoint could be written
"""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import torch

from mann_bench.data.errors import DISK_FULL
from mann_bench.learn.evaluation import evaluate, levels_to_test, validate
from mann_bench.learn.record import LearningCase
from mann_bench.learn.trainer import DivergedError, Trainer
from mann_bench.machine.environment import device_name
from mann_bench.run.worker import is_out_of_memory, limit_memory, open_replies
from mann_bench.suites.tasks import Task, find_task

TELL_S = 0.5


class Run:
    """One command under way, and whom to tell about it."""

    def __init__(self, replies: TextIO) -> None:
        self.replies = replies
        self.stopped = self.evaluating = False
        self.told = (time.monotonic(), 0)  # when, and after how many sequences

    def say(self, **message: Any) -> None:
        """One line to whoever started this."""
        print(json.dumps(message), file=self.replies, flush=True)

    def stop(self, *_: Any) -> None:
        """SIGTERM: end after the batch being run, with a checkpoint; during evaluation, which has left one, at once."""
        self.stopped = True
        if self.evaluating:
            raise SystemExit

    def tell(self, trainer: Trainer) -> None:
        """Progress, not too often."""
        now = time.monotonic()
        if now - self.told[0] < TELL_S or not trainer.curriculum.recent:
            return
        rate = (trainer.sequences - self.told[1]) / (now - self.told[0])
        self.told = (now, trainer.sequences)
        said = {"sequences": trainer.sequences, "level": trainer.curriculum.level, "loss": trainer.curriculum.mean(), "rate": rate}
        self.say(progress={**said, "wall_s": trainer.wall_s})

    def train(self, case: LearningCase, data: Path | None, checkpoint: Path, every_s: float, evaluation_s: float) -> None:
        """Train, evaluate and say what came of it; whatever goes wrong with the model is part of the result."""
        torch.set_num_threads(case.threads)
        if case.memory_bytes is not None:
            limit_memory(case.device, case.memory_bytes)
        task = find_task(case.task, data, case.task_options)
        trainer: Trainer | None = None
        reason = None
        try:
            trainer = Trainer(case, task)
            if checkpoint.exists():
                trainer.load(checkpoint)
            self.told = (time.monotonic(), trainer.sequences)
            status = trainer.run(checkpoint, every_s, self.tell, lambda: self.stopped)
        except Exception as error:  # the model may be anyone's: any failure of it is data
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                self.say(disk=error.strerror)
                return
            status, reason = self.failure(error, trainer)
        if status is None:
            self.say(stopped=True)
            return
        tested = self.evaluate(trainer, task, evaluation_s) if trainer is not None and status in ("ok", "budget", "oom") else {}
        self.say(result={"status": status, "reason": reason, **outcome(trainer), **tested})

    def failure(self, error: Exception, trainer: Trainer | None) -> tuple[str, str]:
        """Status and reason."""
        if isinstance(error, DivergedError):
            return "diverged", str(error)
        where = "while it was built"
        if trainer is not None:
            trainer.close_point()
            where = f"after {trainer.sequences:,} sequences, at level {trainer.drawn_level} ({trainer.task.level_means})"
        if is_out_of_memory(error):
            limit = trainer.case.memory_bytes if trainer else None
            return "oom", f"out of memory {where}" + (f"; the limit is {limit / 2**30:.1f} GiB" if limit else "")
        first_line = str(error).strip().partition("\n")[0]
        return "error", f"{type(error).__name__}: {first_line} ({where})"

    def evaluate(self, trainer: Trainer, task: Task, seconds: float) -> dict[str, Any]:
        """Of the test at each level and of the validation, each within so many seconds, as fields of a result; SIGTERM ends it at once."""
        self.evaluating = True
        trainer.state = None  # evaluation makes memories of its own
        trainer.optimizer.zero_grad(set_to_none=True)
        model, case, highest, held_out = trainer.model, trainer.case, trainer.curriculum.level, task.held_out()
        self.say(evaluating=highest)
        validation = validate(model, case, task, highest, seconds)
        found = []
        for level in levels_to_test(case, held_out, highest):
            self.say(evaluating=level)
            found += [one.model_dump() for one in evaluate(model, case, held_out, level, seconds)]
        return {"evaluations": found, "validation": validation and validation.model_dump(), "evaluation_seconds": seconds}


def outcome(trainer: Trainer | None) -> dict[str, Any]:
    """What a trainer knows of its run."""
    if trainer is None:
        return {"wall_s": 0.0}
    backend = getattr(trainer.model, "backend", {"kernels": "torch", "index": trainer.case.index})
    return {
        "ran": {**backend, "device_name": device_name(trainer.case.device)},
        "answer": trainer.task.answer,
        "level_means": trainer.task.level_means,
        "curve": [point.model_dump() for point in trainer.curve],
        "sequences": trainer.sequences,
        "sequences_to_goal": trainer.reached[0] if trainer.reached else None,
        "seconds_to_goal": round(trainer.reached[1], 3) if trainer.reached else None,
        "level": trainer.curriculum.level,
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "peak_bytes": trainer.peak_bytes(),
        "resumed": trainer.resumed,
        "wall_s": round(trainer.wall_s, 3),
    }


def main() -> None:
    """One run; what a model of the user's own needs is found beside them."""
    sys.path.append("")
    with open_replies() as replies:
        run = Run(replies)
        signal.signal(signal.SIGTERM, run.stop)
        command = json.loads(sys.stdin.readline())
        data = Path(command["data"]) if command["data"] else None
        run.train(LearningCase(**command["case"]), data, Path(command["checkpoint"]), command["every_s"], command["evaluation_s"])


if __name__ == "__main__":
    main()
