"""A small training run and its trainer, and a training process that is none."""

import itertools
import os

from mann_bench.learn.record import LearningCase
from mann_bench.learn.trainer import Trainer
from mann_bench.suites.tasks import find_task

SMALL = {"slots": 11, "word_size": 5, "heads": 2, "reads": 3, "hidden": 7, "batch": 3, "index": "live", "levels": (1, 3), "task": "copy"}


def small_case(**changes):
    return LearningCase(**{**SMALL, "model": "sam", "sequences": 3 * 120, **changes})


def make(case):
    return Trainer(case, find_task(case.task, options=case.task_options))


def after(batches):
    """A `should_stop` that lets so many batches through."""
    calls = itertools.count()
    return lambda: next(calls) == batches


class FakeTrainingProcess:
    """What a session sees of a `TrainingProcess`; always ready to be read. A derived class has `output`, `send` and `receive`."""

    def __init__(self, threads, cpus=()):
        self.ends = os.pipe()
        os.write(self.ends[1], b"there is something to read")

    def fileno(self):
        return self.ends[0]

    def kill(self):
        for end in self.ends:
            os.close(end)
