"""The processes that train, on this machine: one a run, each on processors of its own."""

import contextlib
import selectors
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from mann_bench.data.conditions import Conditions
from mann_bench.data.fields import Json
from mann_bench.learn.record import LearningCase
from mann_bench.learn.trainer import benchmark_case
from mann_bench.machine.cpus import ReservedCpus
from mann_bench.run.builds import build_kernels, build_of
from mann_bench.run.process import WorkerProcess
from mann_bench.run.replies import Failure
from mann_bench.run.runner import why_not_here

Say = Callable[[str], None]


class TrainingProcess(WorkerProcess):
    """A process that trains (`mann_bench.learn.worker`)."""

    MODULE = "mann_bench.learn.worker"


class Training(Protocol):
    """A run in progress, as its session sees it."""

    @property
    def output(self) -> str | None:
        """The end of what its process printed, once that has ended."""

    @property
    def ran(self) -> Conditions | None:
        """The conditions on the host where it runs; None: those of this process."""

    @property
    def tries_lost(self) -> int:
        """Tries before this one that ended with their host."""


class Heard(NamedTuple):
    """Lines that a run has sent, and how it ended if it has."""

    training: Training
    lines: list[bytes]
    death: Failure | None


class Place(Protocol):
    """Where runs are made."""

    def room(self) -> int:
        """How many runs it holds at once, as it is now."""

    def prepare(self, cases: Sequence[LearningCase]) -> None:
        """Do what no run's time should go into; UsageError if runs can never be made here."""

    def why_unavailable(self, case: LearningCase) -> str | None:
        """Why a run cannot be made here, as far as this process knows."""

    def start(self, case: LearningCase, command: Mapping[str, Json], checkpoint: Path, say: Say) -> Training:
        """Start a run.

        Args:
            command: that its process is sent, without the checkpoint.
            checkpoint: file to go on from if it exists, and that holds its last state.
            say: is told what the user should know.
        """

    def wait(self) -> Iterator[Heard]:
        """Wait about a second for what runs send."""

    def finish(self, training: Training) -> None:
        """End what is left of a run, and give back what it held."""

    def stop(self, seconds: float) -> None:
        """Ask all runs to write a checkpoint and stop, and end them, after `seconds` at most."""


@dataclass(eq=False)
class LocalTraining:
    """A run on this machine."""

    process: TrainingProcess
    cpus: ReservedCpus
    descriptor: int  # that its messages arrive on
    ran: Conditions | None = field(default=None, init=False)
    tries_lost: int = field(default=0, init=False)

    @property
    def output(self) -> str | None:
        return self.process.output

    def end(self) -> None:
        """End the process, and free its processors."""
        self.process.kill()
        self.cpus.release()


class ThisMachine:
    """This machine, `jobs` runs at a time."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.running: dict[int, LocalTraining] = {}  # by descriptor
        self.selector = selectors.DefaultSelector()

    def room(self) -> int:
        return self.jobs

    def prepare(self, cases: Sequence[LearningCase]) -> None:
        build_kernels({needed for case in cases if (needed := build_of(case, "float32"))})

    def why_unavailable(self, case: LearningCase) -> str | None:
        return why_not_here(benchmark_case(case))

    def start(self, case: LearningCase, command: Mapping[str, Json], checkpoint: Path, say: Say) -> LocalTraining:
        training = start_training(case, {**command, "checkpoint": str(checkpoint)}, say)
        self.running[training.descriptor] = training
        self.selector.register(training.descriptor, selectors.EVENT_READ)
        return training

    def wait(self) -> Iterator[Heard]:
        for key, _ in self.selector.select(timeout=1.0):
            training = self.running[key.fd]
            yield Heard(training, *training.process.receive())

    def finish(self, training: Training) -> None:
        assert isinstance(training, LocalTraining)
        self.selector.unregister(training.descriptor)
        del self.running[training.descriptor]
        training.end()

    def stop(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for training in self.running.values():
            training.process.stop()
        for training in list(self.running.values()):
            training.process.wait(max(0.0, deadline - time.monotonic()))
            self.finish(training)


def start_training(case: LearningCase, command: Mapping[str, Json], say: Say) -> LocalTraining:
    """Start the process of a run on processors of its own, where there are free ones."""
    cpus = ReservedCpus(case.threads)
    if cpus.shared:
        say("no free processor: it shares those of other runs, and is slower")
    process = TrainingProcess(case.threads, cpus=[] if cpus.shared else cpus.cpus)
    with contextlib.suppress(BrokenPipeError):  # it has ended, as will be seen
        process.send(command)
    return LocalTraining(process, cpus, process.fileno())
