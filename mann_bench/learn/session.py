"""A session of training runs: several at a time, each in its own process, here (`processes.py`) or on the hosts of a cluster (`on_ray.py`).

Progress is shown; a finished run is stored at once.
"""

import errno
import platform
import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mann_bench.data.axes import axes_of
from mann_bench.data.conditions import RunDescription
from mann_bench.data.fields import Json, JsonObject
from mann_bench.data.registry import find_model
from mann_bench.data.result import SCHEMA, now
from mann_bench.data.shards import Shard
from mann_bench.data.store import RecordFolder
from mann_bench.data.text import shortened, visible
from mann_bench.data.units import format_duration, format_slots
from mann_bench.learn.messages import Message, TrainingProgress, decode_message
from mann_bench.learn.processes import Place, Training
from mann_bench.learn.record import LEARNING, LIMITS, LearningCase, LearningResult, furthest
from mann_bench.learn.trainer import load_checkpoint
from mann_bench.machine.environment import fingerprint
from mann_bench.run.replies import Failure, Killed
from mann_bench.run.words import reason_line, text_of
from mann_bench.suites.tasks import takes_data

STOP_S = 30.0  # time for a process to finish its batch and write a checkpoint, after it was asked to stop
LEAST_SHARE = 0.01  # of a limit that must be used before it says how long the rest takes
LINE_S = 30.0  # time between two progress lines of a run where the output is no terminal


@dataclass(eq=False)
class Running:
    """A run in progress."""

    case: LearningCase
    training: Training
    checkpoint: Path
    started_at: str = field(default_factory=now)
    bar: TaskID | None = None
    printed_s: float = field(default_factory=time.monotonic)  # when the last progress line was printed


class LearningSession:
    """The runs of one folder.

    Args:
        data: folder or archive, for tasks that read files.
        path: folder of the results.
        every_s: seconds between checkpoints.
        evaluation_s: time limit of each evaluated level.
        description: content of `run.json`; by default it describes these runs.
        labels: names of the runs in progress lines, by run id; by default model, slots and seed.

    Raises:
        UsageError: as `RecordFolder`.
    """

    def __init__(
        self,
        cases: list[LearningCase],
        data: Path | None,
        path: Path,
        *,
        resume: bool,
        every_s: float,
        evaluation_s: float,
        console: Console,
        description: RunDescription | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.cases, self.data, self.path, self.console = cases, data, path, console
        self.every_s, self.evaluation_s = every_s, evaluation_s
        self.labels = labels or {}
        self.folder = RecordFolder(path, description or describe(cases, data), LEARNING, resume=resume)
        self.stored = furthest(self.folder.records)
        finished = (self.stored.get(case.run_id) for case in cases)
        self.done = {result.run_id: result for case, result in zip(cases, finished, strict=True) if result and result.fulfils(case)}
        self.statuses: Counter[str] = Counter(result.status for result in self.done.values())
        self.waiting = deque(case for case in cases if case.run_id not in self.done)
        self.killed: set[str] = set()  # ids of the runs whose process was killed once
        self.running: dict[Training, Running] = {}
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), TextColumn("{task.fields[text]}", markup=False))
        self.bars = Progress(*columns, console=console, transient=True) if console.is_terminal else None

    def run(self, place: Place) -> Counter[str]:
        """Make the runs that the folder does not hold yet, as many at a time as the place holds.

        Returns:
            How many runs ended with each status, earlier ones included.
        """
        if self.done:
            self.console.print(f"{len(self.done)} of {len(self.cases)} runs are there already")
        waiting = f"{len(self.waiting)} runs to make, {place.room()} at a time; results: {self.folder.results_path}"
        self.console.print(waiting, soft_wrap=True)
        (self.path / "checkpoints").mkdir(exist_ok=True)
        try:
            place.prepare(self.cases)
            with self.bars or nullcontext():
                while self.waiting or self.running:
                    while self.waiting and len(self.running) < max(1, place.room()):
                        self.start(self.waiting.popleft(), place)
                    for training, lines, death in place.wait():
                        run = self.running[training]
                        for message in (*map(decode_message, lines), *filter(None, [death])):
                            self.handle(run, message, place)
        finally:
            self.close(place)
        return self.statuses

    def label(self, case: LearningCase) -> str:
        """Name a run in a progress line."""
        return self.labels.get(case.run_id) or label(case)

    def start(self, case: LearningCase, place: Place) -> None:
        """Start a run, or store why it cannot run there."""
        if missing := place.why_unavailable(case):
            self.store(LearningResult(case_id=case.case_id, case=case, started_at=now(), status="unavailable", reason=missing, wall_s=0.0))
            return
        checkpoint = self.path.resolve() / "checkpoints" / f"{case.run_id}.pt"  # a model may change the current folder
        if case.run_id in self.stored and not checkpoint.exists():
            self.say(case, f"expected the checkpoint {checkpoint}, got none; the run starts anew")
        data = str(self.data.resolve()) if self.data and takes_data(case.task) else None
        command: dict[str, Json] = {"case": case.model_dump(), "data": data, "every_s": self.every_s, "evaluation_s": self.evaluation_s}
        run = Running(case, place.start(case, command, checkpoint, lambda text: self.say(case, text)), checkpoint)
        self.running[run.training] = run
        if self.bars:
            run.bar = self.bars.add_task(visible(self.label(case)), total=1.0, text="starting")

    def say(self, case: LearningCase, text: str) -> None:
        """Print a sentence about a run."""
        self.console.print(f"{self.label(case)}: {text}", soft_wrap=True, markup=False)

    def handle(self, run: Running, message: Message | Failure, place: Place) -> None:
        """Handle one message of a run, or the failure of its process."""
        if run not in self.running.values():  # an earlier message has finished it
            return
        if isinstance(message, Killed) and run.case.run_id not in self.killed:
            self.finish(run, place)
            self.killed.add(run.case.run_id)
            self.waiting.append(run.case)
            self.say(run.case, f"{message.reason}; it will go on from its last checkpoint")
        elif isinstance(message, Failure):
            self.finish(run, place)
            self.store(result_of(run, {**left_behind(run), "status": message.status, "reason": message.reason}), run.training)
        elif message.progress is not None:
            self.show(run, *progress_of(run.case, message.progress))
        elif message.evaluating is not None:
            self.show(run, f"evaluating level {message.evaluating:,}")
        elif message.stopped:  # by a signal that is not ours
            self.finish(run, place)
            self.say(run.case, "stopped, and left a checkpoint")
        elif message.disk is not None:
            raise OSError(errno.ENOSPC, message.disk)
        elif message.result is not None:
            self.finish(run, place)
            self.store(result_of(run, message.result), run.training)

    def finish(self, run: Running, place: Place) -> None:
        """End the process of a run and remove its progress bar."""
        del self.running[run.training]
        place.finish(run.training)
        if self.bars and run.bar is not None:
            self.bars.remove_task(run.bar)

    def store(self, result: LearningResult, training: Training | None = None) -> None:
        """Store a result, with what is known of where it ran, then print a line about it."""
        self.folder.append(result, training.ran if training else None, lost=training.tries_lost if training else 0)
        self.statuses[result.status] += 1
        done = f"[{sum(self.statuses.values())}/{len(self.cases)}]"
        self.console.print(f"{done} {self.label(result.case)}: {outcome_line(result)}", soft_wrap=True)

    def show(self, run: Running, text: str, completed: float | None = None) -> None:
        """Say how far a run is, in its progress bar; without a terminal in a line, every `LINE_S` seconds."""
        if self.bars and run.bar is not None:
            self.bars.update(run.bar, completed=completed, text=text)
        elif time.monotonic() - run.printed_s >= LINE_S:
            run.printed_s = time.monotonic()
            self.console.print(f"{self.label(run.case)}: {text}", soft_wrap=True)

    def close(self, place: Place) -> None:
        """Ask running processes to write a checkpoint and stop; release the folder."""
        if self.running:
            self.console.print(f"stopping: up to {STOP_S:.0f} s for checkpoints of unfinished runs ({len(self.running)})", markup=False)
        place.stop(STOP_S)
        self.running.clear()
        self.folder.close()


def describe(cases: list[LearningCase], data: Path | None, shard: Shard | None = None) -> RunDescription:
    """Content of `run.json` for these runs, or for those of a shard."""
    part: RunDescription = {"shard": shard.to_json()} if shard else {}
    return {
        **part,
        "schema": SCHEMA,
        "suite": "learning",
        "task": cases[0].task,
        "data": data.name if data else None,
        "case_ids": [case.case_id for case in cases],
        "axes": axes_of(cases, without=LIMITS),
        "run_ids": [case.run_id for case in cases],
        "started_at": now(),
        "host": platform.node(),
        "environment": fingerprint(),
    }


def result_of(run: Running, outcome: JsonObject) -> LearningResult:
    """The result of a run whose process has ended.

    Args:
        outcome: fields of it, from the process; where they cannot be its fields, the run has failed.
    """
    known: dict[str, object] = {"case_id": run.case.case_id, "case": run.case, "started_at": run.started_at}
    output = None if outcome.get("status") in ("ok", "budget") else run.training.output
    try:
        return LearningResult(**known, **outcome, output=output)
    except (ValidationError, TypeError) as error:  # TypeError: a field that is known already
        reason = reason_line(f"expected a result of the training process, got one that cannot be stored: {text_of(error)}")
        return LearningResult(**known, status="error", reason=reason, output=run.training.output, wall_s=0.0)


def left_behind(run: Running) -> JsonObject:
    """Fields of a `LearningResult` from the last checkpoint of a run whose process died; none but the time without a sound checkpoint."""
    try:
        checkpoint = load_checkpoint(run.checkpoint, run.case)
        return {
            "curve": checkpoint["curve"],
            "sequences": checkpoint["step"] * run.case.batch,
            "level": checkpoint["curriculum"]["level"],
            "wall_s": round(checkpoint["wall_s"], 3),
            "resumed": checkpoint["resumed"],
        }
    except Exception:  # torch.load has many for a damaged file
        return {"wall_s": 0.0}


def label(case: LearningCase) -> str:
    """`sam N=64k seed 0`, `sam erase=gated N=64k seed 0`."""
    size = f" N={format_slots(case.slots)}" if find_model(case.model).uses_slots else ""
    return f"{case.title}{size} seed {case.seed}"


def progress_of(case: LearningCase, progress: TrainingProgress) -> tuple[str, float]:
    """Describe the progress of a run in one line; and the share of its limit that is used."""
    text = (
        f"loss {progress.loss:.3f}  level {progress.level:,}  "
        f"{progress.sequences:,} sequences  {progress.rate:,.0f}/s  {progress.wall_s:,.0f} s"
    )
    share = max(progress.sequences / (case.sequences or float("inf")), progress.wall_s / (case.seconds or float("inf")))
    if share >= LEAST_SHARE:
        text += f"  at most {format_duration(float(f'{progress.wall_s * max(0.0, 1 / share - 1):.2g}'))} left"
    return text, share


def outcome_line(result: LearningResult) -> str:
    """Describe the outcome of a finished run in one line."""
    parts = [result.status + (f" ({shortened(result.reason)})" if result.reason else "")]
    if result.curve:
        last = result.curve[-1]
        parts.append(f"loss {last.loss:.3f}, level {last.level:,}, {result.sequences:,} sequences in {result.wall_s:,.0f} s")
    if result.sequences_to_goal is not None and result.seconds_to_goal is not None:
        parts.append(f"goal after {result.sequences_to_goal:,} ({result.seconds_to_goal:,.0f} s)")
    for test in result.evaluations:
        if test.group is None and test.level == result.level and test.error is not None:
            unit = "bits" if result.answer == "bits" else "of answers"
            chance = f", chance {test.chance:.3g}" if test.chance else ""
            parts.append(f"held out at level {test.level:,}: {test.error:.3g} {unit} wrong{chance}")
    return "; ".join(parts)
