"""The best of several seeds by validation error, as in the paper's Table 1, and mean and deviation over seeds, as in its Table 2."""

from dataclasses import dataclass

import numpy as np

from mann_bench.learn.record import LearningResult
from mann_bench.reports.learning.experiments import Curve


@dataclass(frozen=True)
class Selection:
    """The best run of a curve with its validation and test errors; `tests`: the test errors of all validated runs."""

    run: LearningResult
    validation: float
    test: float
    tests: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean test error over seeds."""
        return float(np.mean(self.tests))

    @property
    def deviation(self) -> float:
        """Sample standard deviation of the test error over seeds."""
        return float(np.std(self.tests, ddof=1))


def select(curve: Curve) -> Selection | None:
    """Choose the run of the highest level and, among these, of the smallest validation error; None with fewer than two candidates."""
    candidates = [
        (-(run.level or 0), run.validation.error, run, test)
        for run in curve.trained
        if run.validation is not None and run.validation.error is not None and (test := tested_error(run)) is not None
    ]
    if len(candidates) < 2:
        return None
    _, validation, run, test = min(candidates, key=lambda candidate: candidate[:2])
    return Selection(run, validation, test, tuple(test for *_, test in candidates))


def tested_error(run: LearningResult) -> float | None:
    """Return the test error at the highest level trained on; on bAbI the mean over its tasks, as in the paper."""
    by_group = run.case.task == "babi"
    evaluations = [e for e in run.evaluations if e.level == run.level and (e.group is not None) == by_group]
    errors = [e.error for e in evaluations if e.error is not None]
    return float(np.mean(errors)) if errors else None
