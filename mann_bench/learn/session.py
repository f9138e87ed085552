"""A session of training runs: several at a time, each in its own process. Progress is shown; a finished run is stored at once."""

import errno
import selectors
import time
from collections import Counter, deque
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mann_bench.data.registry import find_model
from mann_bench.data.result import SCHEMA, now
from mann_bench.data.store import RecordFolder
from mann_bench.data.text import shortened, visible
from mann_bench.data.units import format_slots
from mann_bench.learn.record import LEARNING, LearningCase, LearningResult, furthest
from mann_bench.learn.trainer import load_checkpoint
from mann_bench.machine.environment import fingerprint
from mann_bench.run.process import WorkerProcess
from mann_bench.run.replies import Failure
from mann_bench.run.runner import why_unavailable

STOP_S = 30.0  # time for a process to finish its batch and write a checkpoint, after it was asked to stop
LINE_S = 30.0  # time between two progress lines of a run where the output is no terminal


class TrainingProcess(WorkerProcess):
    """A process that trains (`mann_bench.learn.worker`)."""

    MODULE = "mann_bench.learn.worker"


@dataclass(eq=False)
class Running:
    """A run in progress."""

    case: LearningCase
    process: TrainingProcess
    checkpoint: Path
    started_at: str = field(default_factory=now)
    bar: TaskID | None = None
    printed_s: float = field(default_factory=time.monotonic)  # when the last progress line was printed


class LearningSession:
    """The runs of one folder.

    Args:
        data: folder or archive that the task reads.
        path: folder of the results.
        every_s: seconds between checkpoints.
        evaluation_s: time limit of each evaluated level.

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
    ) -> None:
        self.cases, self.data, self.path, self.console = cases, data, path, console
        self.every_s, self.evaluation_s = every_s, evaluation_s
        self.folder = RecordFolder(path, describe(cases, data), LEARNING, resume=resume)
        self.stored = furthest(self.folder.records)
        finished = (self.stored.get(case.run_id) for case in cases)
        self.done = {result.run_id: result for case, result in zip(cases, finished, strict=True) if result and result.fulfils(case)}
        self.statuses: Counter[str] = Counter(result.status for result in self.done.values())
        self.running: dict[int, Running] = {}  # by the file descriptor of the process's messages
        self.selector = selectors.DefaultSelector()
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), TextColumn("{task.fields[text]}", markup=False))
        self.bars = Progress(*columns, console=console, transient=True) if console.is_terminal else None

    def run(self, jobs: int) -> Counter[str]:
        """Make the runs that the folder does not hold yet, `jobs` at a time.

        Returns:
            How many runs ended with each status, earlier ones included.
        """
        waiting = deque(case for case in self.cases if case.run_id not in self.done)
        if self.done:
            self.console.print(f"{len(self.done)} of {len(self.cases)} runs are there already")
        (self.path / "checkpoints").mkdir(exist_ok=True)
        try:
            with self.bars or nullcontext():
                while waiting or self.running:
                    while waiting and len(self.running) < jobs:
                        self.start(waiting.popleft())
                    for key, _ in self.selector.select(timeout=1.0):
                        run = self.running[key.fd]
                        for message in run.process.read():
                            self.handle(run, message)
        finally:
            self.close()
        return self.statuses

    def start(self, case: LearningCase) -> None:
        """Start a run, or store why it cannot run here."""
        if missing := why_unavailable(case.device, case.variant, case.index):
            self.store(case, now(), {"status": "unavailable", "reason": missing, "wall_s": 0.0})
            return
        checkpoint = (self.path / "checkpoints" / f"{case.run_id}.pt").absolute()  # a model may change the current folder
        if case.run_id in self.stored and not checkpoint.exists():
            self.console.print(f"{label(case)}: expected the checkpoint {checkpoint}, got none; the run starts anew", soft_wrap=True)
        run = Running(case, TrainingProcess(case.threads), checkpoint)
        data = str(self.data.resolve()) if self.data else None
        times = {"every_s": self.every_s, "evaluation_s": self.evaluation_s}
        run.process.send({"case": case.model_dump(), "data": data, "checkpoint": str(run.checkpoint), **times})
        self.running[run.process.fileno()] = run
        self.selector.register(run.process, selectors.EVENT_READ)
        if self.bars:
            run.bar = self.bars.add_task(visible(label(case)), total=1.0, text="starting")

    def handle(self, run: Running, message: dict[str, Any] | Failure) -> None:
        """Handle one message of a run (`mann_bench.learn.worker`), or the death of its process."""
        if isinstance(message, Failure):
            if run in self.running.values():  # not yet finished by an earlier message
                self.finish(run)
                self.store(run.case, run.started_at, {**left_behind(run), "status": message.status, "reason": message.reason})
        elif "progress" in message:
            self.show(run, message["progress"])
        elif "evaluating" in message:
            if self.bars and run.bar is not None:
                self.bars.update(run.bar, text=f"evaluating level {message['evaluating']}")
        elif "stopped" in message:  # by a signal that is not ours
            self.finish(run)
            self.console.print(f"{label(run.case)}: stopped, and left a checkpoint")
        elif "disk" in message:
            raise OSError(errno.ENOSPC, message["disk"])
        elif "result" in message:
            self.finish(run)
            self.store(run.case, run.started_at, message["result"])

    def finish(self, run: Running) -> None:
        """End the process of a run and remove its progress bar."""
        self.selector.unregister(run.process)
        del self.running[run.process.fileno()]
        run.process.kill()
        if self.bars and run.bar is not None:
            self.bars.remove_task(run.bar)

    def store(self, case: LearningCase, started_at: str, outcome: dict[str, Any]) -> None:
        """Store the result of a finished run, then print a line about it."""
        result = LearningResult(case_id=case.case_id, case=case, started_at=started_at, **outcome)
        self.folder.append(result)
        self.statuses[result.status] += 1
        self.console.print(f"[{sum(self.statuses.values())}/{len(self.cases)}] {line(result)}", soft_wrap=True)

    def show(self, run: Running, progress: dict[str, Any]) -> None:
        """Update the progress bar of a run; without a terminal, print a line every `LINE_S` seconds."""
        text = (
            f"loss {progress['loss']:.3f}  level {progress['level']:,}  "
            f"{progress['sequences']:,} sequences  {progress['rate']:,.0f}/s  {progress['wall_s']:,.0f} s"
        )
        case = run.case
        shares = [progress["sequences"] / (case.sequences or float("inf")), progress["wall_s"] / (case.seconds or float("inf"))]
        if self.bars and run.bar is not None:
            self.bars.update(run.bar, completed=max(shares), text=text)
        elif time.monotonic() - run.printed_s >= LINE_S:
            run.printed_s = time.monotonic()
            self.console.print(f"{label(case)}: {text}", soft_wrap=True)

    def close(self) -> None:
        """Ask running processes to write a checkpoint and stop; release the folder."""
        for run in self.running.values():
            run.process.stop()
        deadline = time.monotonic() + STOP_S
        for run in self.running.values():
            run.process.wait(max(0.0, deadline - time.monotonic()))
            run.process.kill()
        self.running.clear()
        self.selector.close()
        self.folder.close()


def describe(cases: list[LearningCase], data: Path | None) -> dict[str, Any]:
    """Content of `run.json`."""
    return {
        "schema": SCHEMA,
        "suite": "learning",
        "task": cases[0].task,
        "data": data.name if data else None,
        "case_ids": [case.case_id for case in cases],
        "run_ids": [case.run_id for case in cases],
        "started_at": now(),
        "environment": fingerprint(),
    }


def left_behind(run: Running) -> dict[str, Any]:
    """Fields of a `LearningResult` from the last checkpoint of a run whose process died."""
    try:
        checkpoint = load_checkpoint(run.checkpoint, run.case)
    except (OSError, ValueError, RuntimeError):
        return {"wall_s": 0.0}
    return {
        "curve": checkpoint["curve"],
        "sequences": checkpoint["step"] * run.case.batch,
        "level": checkpoint["curriculum"]["level"],
        "wall_s": round(checkpoint["wall_s"], 3),
        "resumed": checkpoint["resumed"],
    }


def label(case: LearningCase) -> str:
    """`sam N=64k seed 0`."""
    size = f" N={format_slots(case.slots)}" if find_model(case.model).uses_slots else ""
    return f"{case.name}{size} seed {case.seed}"


def line(result: LearningResult) -> str:
    """Describe a finished run in one line."""
    parts = [f"{label(result.case)}: {result.status}" + (f" ({shortened(result.reason)})" if result.reason else "")]
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
