"""Training runs on the hosts of a Ray cluster.

This process holds the one writer. On a host, an actor starts the run's process and passes on what it sends. Each new checkpoint comes
along, so this folder has the last one of every run. A run whose host ended goes on from it on another host, without a common file system.
"""

import contextlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from mann_bench.data.conditions import Conditions
from mann_bench.data.fields import Json
from mann_bench.data.files import write_atomically
from mann_bench.data.result import now
from mann_bench.learn.processes import Heard, LocalTraining, Say, Training, start_training
from mann_bench.learn.record import LearningCase
from mann_bench.learn.trainer import benchmark_case
from mann_bench.machine.environment import fingerprint
from mann_bench.run.builds import build_kernels, build_of
from mann_bench.run.process import wait_for
from mann_bench.run.ray_cluster import Job, RayCluster, Requeued, Scheduler, check_same, niceness_warning
from mann_bench.run.replies import Failure
from mann_bench.run.runner import why_not_here

END_S = 10.0  # for an actor to end its process
LISTEN_S = 1.0  # that an actor waits for its process to send something
TEMPORARY = "mann-bench-training"  # first part of the names of folders for checkpoints on a host; the process id follows
ADVICE = "add one, or give smaller --threads and --memory"


@dataclass(eq=False)
class RemoteTraining(Job):
    """A run on the cluster."""

    case: LearningCase
    command: Mapping[str, Json]
    checkpoint: Path
    say: Say
    driver: Conditions
    actor: Any = None
    ran: Conditions | None = field(default=None, init=False)
    output: str | None = field(default=None, init=False)

    @property
    def tries_lost(self) -> int:
        return max(0, self.tries - 1)


class Answer(NamedTuple):
    """What an actor answers: lines that its process sent, and how that ended if it has; where there is a new checkpoint, its content.

    The first one has the conditions of the run, and notes for the user.
    """

    lines: list[bytes]
    death: Failure | None = None
    checkpoint: bytes | None = None
    ran: Conditions | None = None
    notes: Sequence[str] = ()


class RayHosts:
    """The hosts of a cluster, with as many runs as they hold.

    Args:
        jobs: runs at a time at most; None: no limit of its own.
        needs: what a run takes of its host (`needs_of`).
    """

    def __init__(self, cluster: RayCluster, needs: dict[str, float], jobs: int | None = None) -> None:
        self.cluster, self.needs, self.jobs = cluster, needs, jobs
        self.driver: Conditions = {"host": platform.node(), "environment": fingerprint()}
        self.runs: set[RemoteTraining] = set()
        self.scheduler = Scheduler[RemoteTraining, Answer](cluster, self._start, self.room)

    def room(self) -> int:
        there = self.cluster.room(self.needs)
        return there if self.jobs is None else min(self.jobs, there)

    def prepare(self, cases: Sequence[LearningCase]) -> None:
        """Nothing: each host compiles its kernels itself."""

    def why_unavailable(self, case: LearningCase) -> str | None:
        """None: only the host knows."""
        return None

    def start(self, case: LearningCase, command: Mapping[str, Json], checkpoint: Path, say: Say) -> RemoteTraining:
        training = RemoteTraining(case, command, checkpoint, say, self.driver)
        self.runs.add(training)
        self.scheduler.waiting.append(training)
        return training

    def wait(self) -> Iterator[Heard]:
        for training, answer in self.scheduler.answers():
            if training not in self.runs:
                continue
            if isinstance(answer, Requeued):
                training.say(f"{answer.reason}; it goes on elsewhere{' from its checkpoint' if training.checkpoint.exists() else ', anew'}")
            elif isinstance(answer, Failure):
                yield Heard(training, [], answer)
            else:
                yield take(training, answer)
                if training in self.runs:
                    self.scheduler.expect(training, training.actor.listen.remote())

    def finish(self, training: Training) -> None:
        assert isinstance(training, RemoteTraining)
        self.runs.discard(training)
        self.scheduler.forget(training)
        if training.actor is not None:
            with contextlib.suppress(Exception):  # its host has ended, or does not answer
                training.output = self.cluster.ray.get(training.actor.end.remote(), timeout=END_S)
            training.actor = None  # the last reference: Ray ends the actor

    def stop(self, seconds: float) -> None:
        self.scheduler.waiting.clear()
        for training in self.runs:
            if training.actor is not None:
                training.actor.stop.remote()
        deadline = time.monotonic() + seconds
        while self.scheduler and (left_s := deadline - time.monotonic()) > 0:
            for training, answer in self.scheduler.answers(left_s):
                if isinstance(answer, (Failure, Requeued)):
                    self.scheduler.forget(training)
                elif take(training, answer).death is None:
                    self.scheduler.expect(training, training.actor.listen.remote())
        for training in list(self.runs):
            self.finish(training)

    def _start(self, training: RemoteTraining) -> object:
        """Start the actor of a run, and its process."""
        memory = {"memory": self.needs["memory"]} if "memory" in self.needs else {}
        limits = {"num_cpus": self.needs["CPU"], "num_gpus": self.needs["GPU"], **memory}
        # Of its two threads one listens and one is told to stop. Nothing is retried but by us.
        actor = self.cluster.ray.remote(TrainingHost).options(**limits, max_restarts=0, max_task_retries=0, max_concurrency=2)
        training.actor = actor.remote()
        stored = training.checkpoint.read_bytes() if training.checkpoint.exists() else None
        return training.actor.start.remote(training.command, stored)


def needs_of(cases: Sequence[LearningCase]) -> dict[str, float]:
    """What a run takes of its host, by Ray's names of it: processors, GPUs, and bytes of memory of the host."""
    gpu = any(case.device.startswith("cuda") for case in cases)
    most = max((case.memory_bytes or 0 for case in cases), default=0)
    needs = {"CPU": float(max((case.threads for case in cases), default=1)), "GPU": float(gpu)}
    return needs if gpu or not most else {**needs, "memory": float(most)}


def take(training: RemoteTraining, answer: Answer) -> Heard:
    """Take over an answer: its checkpoint is kept before anybody reads its lines."""
    if answer.ran is not None:
        check_same(training.driver, answer.ran)
        training.ran = answer.ran
    for note in answer.notes:
        training.say(f"on {(training.ran or {}).get('host')}: {note}")
    if answer.checkpoint is not None:
        write_atomically(training.checkpoint, answer.checkpoint)
    return Heard(training, answer.lines, answer.death)


class TrainingHost:
    """The actor: one run on the host where it is."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.training: LocalTraining | None = None
        self.sent: tuple[int, int] | None = None  # inode and time of the checkpoint that was sent last

    def start(self, command: Mapping[str, Json], checkpoint: bytes | None) -> Answer:
        """Start the process.

        Args:
            command: that it is sent, without the checkpoint's path.
            checkpoint: content of the file that it goes on from.
        """
        ran: Conditions = {"started_at": now(), "host": platform.node(), "environment": fingerprint()}
        case = LearningCase.model_validate(command["case"])
        notes = niceness_warning()
        if missing := why_not_here(benchmark_case(case)):
            return Answer([], Failure(status="unavailable", reason=missing), ran=ran, notes=notes)
        build_kernels(filter(None, [build_of(case, "float32")]))
        remove_left_folders()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}-{os.getpid()}-"))
        if checkpoint is not None:
            write_atomically(self.file, checkpoint)
            self.sent = self._state()
        self.training = start_training(case, {**command, "checkpoint": str(self.file)}, notes.append)
        return Answer([], ran=ran, notes=notes)

    @property
    def file(self) -> Path:
        """The run's checkpoint on this host."""
        assert self.folder is not None
        return self.folder / "checkpoint.pt"

    def listen(self) -> Answer:
        """Wait until the process sends something, ends, or `LISTEN_S` are over."""
        assert self.training is not None
        lines, death = self.training.process.receive() if wait_for(self.training.process, LISTEN_S) else ([], None)
        checkpoint, state = None, self._state()
        if state != self.sent:
            checkpoint, self.sent = self.file.read_bytes(), state
        return Answer(lines, death, checkpoint)

    def stop(self) -> None:
        """Ask the process to write a checkpoint and stop."""
        if self.training is not None:
            self.training.process.stop()

    def end(self) -> str | None:
        """End the process and remove its folder; returns the end of what the process printed."""
        if self.training is not None:
            self.training.end()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.training.output if self.training is not None else None

    def _state(self) -> tuple[int, int] | None:
        """What tells the checkpoint from the one before; None if there is none."""
        with contextlib.suppress(FileNotFoundError):
            stat = self.file.stat()
            return stat.st_ino, stat.st_mtime_ns
        return None


def remove_left_folders() -> None:
    """Remove the folders of actors that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}-*-*"):
        pid = folder.name.removeprefix(f"{TEMPORARY}-").partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
