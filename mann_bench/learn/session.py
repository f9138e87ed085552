"""Many training runs, some at a time, each in a process of its own: progress shown, every finished run stored at once."""

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
from mann_bench.data.units import format_slots
from mann_bench.learn.record import LEARNING, LearningCase, LearningResult, furthest
from mann_bench.learn.trainer import load_checkpoint
from mann_bench.machine.environment import fingerprint
from mann_bench.run.process import WorkerProcess
from mann_bench.run.replies import Failure
from mann_bench.run.runner import why_unavailable

STOP_S = 30.0  # a process that is asked to stop finishes its batch and writes a checkpoint
PLAIN_S = 30.0  # between two lines of a run where there is no terminal


class TrainingProcess(WorkerProcess):
    """A worker that trains."""

    MODULE = "mann_bench.learn.worker"


@dataclass
class Running:
    """A run under way."""

    case: LearningCase
    process: TrainingProcess
    checkpoint: Path
    started_at: str = field(default_factory=now)
    shown: TaskID | None = None
    printed_s: float = field(default_factory=time.monotonic)


class LearningSession:
    """The runs of one folder."""

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
        before = furthest(self.folder.records)
        self.done = {case.run_id: before[case.run_id] for case in cases if case.run_id in before and before[case.run_id].fulfils(case)}
        self.statuses: Counter[str] = Counter(result.status for result in self.done.values())
        self.running: dict[int, Running] = {}
        self.selector = selectors.DefaultSelector()
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[told]}"))
        self.bars = Progress(*columns, console=console, transient=True) if console.is_terminal else None

    def run(self, jobs: int) -> Counter[str]:
        """Run what the folder does not hold yet, `jobs` at a time; how many runs ended with each status, earlier ones included."""
        waiting = deque(case for case in self.cases if case.run_id not in self.done)
        if self.done:
            self.console.print(f"{len(self.done)} of {len(self.cases)} runs are there already", markup=False)
        (self.path / "checkpoints").mkdir(exist_ok=True)
        try:
            with self.bars or nullcontext():
                while waiting or self.running:
                    while waiting and len(self.running) < jobs:
                        self.begin(waiting.popleft())
                    for key, _ in self.selector.select(timeout=1.0):
                        one = self.running[key.fd]
                        for message in one.process.read():
                            self.take(one, message)
        finally:
            self.end()
        return self.statuses

    def begin(self, case: LearningCase) -> None:
        """Start a run, or record why it cannot be."""
        if missing := why_unavailable(case.device, case.variant, case.index):
            self.store(case, now(), {"status": "unavailable", "reason": missing, "wall_s": 0.0})
            return
        checkpoint = self.checkpoint(case)
        one = Running(case, TrainingProcess(case.threads), checkpoint)
        data = str(self.data.resolve()) if self.data else None
        times = {"every_s": self.every_s, "evaluation_s": self.evaluation_s}
        one.process.send({"case": case.model_dump(), "data": data, "checkpoint": str(checkpoint), **times})
        self.running[one.process.fileno()] = one
        self.selector.register(one.process, selectors.EVENT_READ)
        if self.bars:
            one.shown = self.bars.add_task(label(case), total=1.0, told="starting")

    def checkpoint(self, case: LearningCase) -> Path:
        """Where a run goes on from."""
        return self.path / "checkpoints" / f"{case.run_id}.pt"

    def take(self, one: Running, message: dict[str, Any] | Failure) -> None:
        """One message of a run."""
        if isinstance(message, Failure):
            if one.process in (other.process for other in self.running.values()):  # its process has died
                self.leave(one)
                self.store(one.case, one.started_at, {**left_behind(one), "status": message.status, "reason": message.reason})
        elif "progress" in message:
            self.show(one, message["progress"])
        elif "evaluating" in message:
            if self.bars and one.shown is not None:
                self.bars.update(one.shown, told=f"evaluating level {message['evaluating']}")
        elif "stopped" in message:  # by somebody else's signal
            self.leave(one)
            self.console.print(f"{label(one.case)}: stopped, and left a checkpoint", markup=False)
        elif "disk" in message:
            raise OSError(errno.ENOSPC, message["disk"])
        elif "result" in message:
            self.leave(one)
            self.store(one.case, one.started_at, message["result"])

    def leave(self, one: Running) -> None:
        """A run's process is done with."""
        self.selector.unregister(one.process)
        del self.running[one.process.fileno()]
        one.process.kill()
        if self.bars and one.shown is not None:
            self.bars.remove_task(one.shown)

    def store(self, case: LearningCase, started_at: str, outcome: dict[str, Any]) -> None:
        """Put a finished run on disk, then say so."""
        result = LearningResult(case_id=case.case_id, case=case, started_at=started_at, **outcome)
        self.folder.append(result)
        self.statuses[result.status] += 1
        self.console.print(f"[{sum(self.statuses.values())}/{len(self.cases)}] {line(result)}", markup=False, soft_wrap=True)

    def show(self, one: Running, progress: dict[str, Any]) -> None:
        """A run's live line; where there is no terminal a line now and then."""
        told = (
            f"loss {progress['loss']:.3f}  level {progress['level']:,}  "
            f"{progress['sequences']:,} sequences  {progress['rate']:,.0f}/s  {progress['wall_s']:,.0f} s"
        )
        case = one.case
        parts = [progress["sequences"] / (case.sequences or float("inf")), progress["wall_s"] / (case.seconds or float("inf"))]
        if self.bars and one.shown is not None:
            self.bars.update(one.shown, completed=max(parts), told=told)
        elif time.monotonic() - one.printed_s >= PLAIN_S:
            one.printed_s = time.monotonic()
            self.console.print(f"{label(case)}: {told}", markup=False, soft_wrap=True)

    def end(self) -> None:
        """Ask what still runs to write a checkpoint and stop, and let others write here."""
        for one in self.running.values():
            one.process.stop()
        deadline = time.monotonic() + STOP_S
        for one in self.running.values():
            one.process.wait(max(0.0, deadline - time.monotonic()))
            one.process.kill()
        self.running.clear()
        self.selector.close()
        self.folder.close()


def describe(cases: list[LearningCase], data: Path | None) -> dict[str, Any]:
    """What `run.json` holds."""
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


def left_behind(one: Running) -> dict[str, Any]:
    """What is known of a run whose process died: its last checkpoint."""
    try:
        content = load_checkpoint(one.checkpoint, one.case)
    except (OSError, ValueError, RuntimeError):
        return {"wall_s": 0.0}
    return {
        "curve": content["curve"],
        "sequences": content["step"] * one.case.batch,
        "level": content["curriculum"]["level"],
        "wall_s": round(content["wall_s"], 3),
        "resumed": content["resumed"],
    }


def label(case: LearningCase) -> str:
    """A run in a few words, for people."""
    size = f" N={format_slots(case.slots)}" if find_model(case.model).uses_slots else ""
    return f"{case.name}{size} seed {case.seed}"


def line(result: LearningResult) -> str:
    """A finished run in one line."""
    told = [f"{label(result.case)}: {result.status}" + (f" ({result.reason})" if result.reason else "")]
    if result.curve:
        last = result.curve[-1]
        told.append(f"loss {last.loss:.3f}, level {last.level:,}, {result.sequences:,} sequences in {result.wall_s:,.0f} s")
    if result.sequences_to_goal is not None and result.seconds_to_goal is not None:
        told.append(f"goal after {result.sequences_to_goal:,} ({result.seconds_to_goal:,.0f} s)")
    tested = [one for one in result.evaluations if one.group is None and one.level == result.level and one.error is not None]
    for one in tested:
        unit = "bits" if result.answer == "bits" else "of answers"
        told.append(f"held out at level {one.level:,}: {one.error:.3g} {unit} wrong" + (f", chance {one.chance:.3g}" if one.chance else ""))
    return "; ".join(told)
