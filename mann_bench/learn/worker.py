"""The process of one training run. It reads one command and writes messages (`messages.py`), all as JSON lines.

{"case": {...}, "data": null, "checkpoint": "RUN/checkpoints/ID.pt", "every_s": 60, "evaluation_s": 60}
"""

import signal
from pathlib import Path
from time import monotonic  # a model may replace that of the module

import torch

from mann_bench.data.errors import DISK_FULL
from mann_bench.data.fields import Json
from mann_bench.kernels.index import Unavailable
from mann_bench.learn.evaluation import EmptyStates, evaluate, levels_to_test, model_to_test, validate
from mann_bench.learn.memory_size import rows_written
from mann_bench.learn.record import LearningCase
from mann_bench.learn.trainer import DivergedError, Trainer, start_or_resume
from mann_bench.machine.devices import device_name
from mann_bench.run.channel import Channel, open_channel
from mann_bench.run.words import describe, print_exception, reason_line
from mann_bench.run.worker import is_out_of_memory, limit_memory
from mann_bench.suites.tasks import Task, find_task

REPORT_S = 0.5  # shortest time between two progress messages


class TrainingWorker:
    """One training run, and the channel that its messages go to."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.smaller_limit: str | None = None  # that was there before the run's own
        self.stopped = self.evaluating = False
        self.last_report = (monotonic(), 0)  # time, and sequences trained on by then

    def send(self, **message: Json) -> None:
        """Send one message to the driver."""
        self.channel.send(message)

    def stop(self, *_: object) -> None:
        """Handle a signal: end after the current batch, with a checkpoint; or at once during evaluation, when a checkpoint is written."""
        self.stopped = True
        if self.evaluating:
            raise SystemExit

    def report(self, trainer: Trainer) -> None:
        """Send progress, at most every `REPORT_S` seconds."""
        now, (last_s, last_sequences) = monotonic(), self.last_report
        if now - last_s < REPORT_S or not trainer.curriculum.recent:
            return
        self.last_report = (now, trainer.sequences)
        progress = {
            "sequences": trainer.sequences,
            "level": trainer.curriculum.level,
            "loss": trainer.curriculum.mean_loss(),
            "rate": (trainer.sequences - last_sequences) / (now - last_s),
            "wall_s": trainer.wall_s,
        }
        self.send(progress=progress)

    def train(self, case: LearningCase, data: Path | None, checkpoint: Path, every_s: float, evaluation_s: float) -> None:
        """Train, evaluate and send the result. A failure of the model is a result too.

        Args:
            data: folder or archive that the task reads.
            checkpoint: file to resume from if it exists, written every `every_s` seconds.
            evaluation_s: time limit of each evaluated level.
        """
        torch.set_num_threads(case.threads)
        if case.memory_bytes is not None:
            self.smaller_limit = limit_memory(case.device, case.memory_bytes)
        task = find_task(case.task, data, case.task_options)
        trainer: Trainer | None = None
        reason = self.smaller_limit
        try:
            trainer, started_anew = start_or_resume(case, task, checkpoint)
            reason = "; ".join(filter(None, (self.smaller_limit, started_anew))) or None
            self.last_report = (monotonic(), trainer.sequences)
            status: str | None = trainer.run(checkpoint, every_s, self.report, lambda: self.stopped)
        except Exception as error:  # a user's model may raise anything: any failure of it is data
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                self.send(disk=error.strerror)
                return
            print_exception(error)
            status, reason = self.failure(error, trainer)
        if status is None:
            self.send(stopped=True)
            return
        try:
            trained = trainer if trainer is not None and trainer.sequences > 0 and status in ("ok", "budget", "oom") else None
            errors = self.evaluate(trained, task, evaluation_s) if trained else {}
        except SystemExit:  # the run goes on with its evaluation when it is resumed
            self.send(stopped=True)
            return
        finally:
            self.evaluating = False
        self.send(result={"status": status, "reason": reason, **outcome(trainer), **errors})

    def failure(self, error: Exception, trainer: Trainer | None) -> tuple[str, str]:
        """Status and reason of a run that an exception ended."""
        if isinstance(error, DivergedError):
            return "diverged", reason_line(str(error))
        if isinstance(error, Unavailable):
            return "unavailable", reason_line(str(error))
        where = "while it was built"
        if trainer is not None:
            trainer.close_point()
            where = f"after {trainer.sequences:,} sequences, at level {trainer.drawn_level} ({trainer.task.level_means})"
        if is_out_of_memory(error):
            limit = trainer.case.memory_bytes if trainer else None
            limit_text = self.smaller_limit or (f"the limit is {limit / 2**30:.1f} GiB" if limit else "")
            return "oom", f"out of memory {where}" + (f"; {limit_text}" if limit_text else "")
        return "error", f"{describe(error)} ({where})"

    def evaluate(self, trainer: Trainer, task: Task, seconds: float) -> dict[str, Json]:
        """Evaluate on validation and test sequences.

        Args:
            seconds: time limit of each level.

        Returns:
            Fields of a `LearningResult`.
        """
        self.evaluating = True
        trainer.model.zero_grad(set_to_none=True)
        case, highest, held_out = trainer.case, trainer.curriculum.level, task.held_out()
        emptied, model = trainer.release_state(), model_to_test(trainer)
        states = EmptyStates(model, emptied if model is trainer.model else None)
        del emptied  # before another memory is made
        self.send(evaluating=highest)
        validation = validate(model, case, task, highest, seconds, states)
        evaluations: list[Json] = []
        for level in levels_to_test(case, held_out, highest):
            self.send(evaluating=level)
            evaluations += [evaluation.model_dump() for evaluation in evaluate(model, case, held_out, level, seconds, states=states)]
        shown = validation.model_dump() if validation is not None else None
        return {"evaluations": evaluations, "validation": shown, "evaluation_seconds": seconds}


def outcome(trainer: Trainer | None) -> dict[str, Json]:
    """Fields of a `LearningResult` that the trainer knows; None: the model could not be built."""
    if trainer is None:
        return {"wall_s": 0.0}
    backend = {"kernels": "torch", "index": trainer.case.index, **getattr(trainer.model, "backend", {})}
    return {
        "ran": {**backend, "device_name": device_name(trainer.case.device)},
        "answer": trainer.task.answer,
        "level_means": trainer.task.level_means,
        "curve": [point.model_dump() for point in trainer.curve],
        "sequences": trainer.sequences,
        "sequences_to_goal": trainer.reached[0] if trainer.reached else None,
        "seconds_to_goal": round(trainer.reached[1], 3) if trainer.reached else None,
        "level": trainer.curriculum.level,
        "rows_written": rows_written(trainer.case, trainer.task, trainer.curriculum.level),
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "peak_bytes": trainer.peak_bytes(),
        "resumed": trainer.resumed,
        "wall_s": round(trainer.wall_s, 3),
    }


def main() -> None:
    """Read one command and carry it out."""
    channel = open_channel()
    worker = TrainingWorker(channel)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, worker.stop)
    command = next(channel.commands())
    data = Path(command["data"]) if command["data"] else None
    worker.train(LearningCase(**command["case"]), data, Path(command["checkpoint"]), command["every_s"], command["evaluation_s"])


if __name__ == "__main__":
    main()
