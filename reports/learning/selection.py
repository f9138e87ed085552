"""One run of several seeds, chosen by its validation error as in the paper's Table 1, beside mean and spread over seeds (Table 2)."""

from dataclasses import dataclass

import numpy as np

from mann_bench.learn.record import LearningResult
from mann_bench.reports.learning.experiments import Curve


@dataclass(frozen=True)
class Selection:
    """The chosen run of a curve and its errors, and the test errors of all its runs that were validated."""

    run: LearningResult
    validation: float
    test: float
    tests: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.tests))

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds, of the sample."""
        return float(np.std(self.tests, ddof=1))


def select(curve: Curve) -> Selection | None:
    """The run of the highest level, of these the one of the smallest validation error; None with fewer than two seeds to choose from."""
    known = [
        (-(run.level or 0), run.validation.error, run, test)
        for run in curve.trained
        if run.validation is not None and run.validation.error is not None and (test := tested_error(run)) is not None
    ]
    if len(known) < 2:
        return None
    _, validation, run, test = min(known, key=lambda one: one[:2])
    return Selection(run, validation, test, tuple(test for *_, test in known))


def tested_error(run: LearningResult) -> float | None:
    """At the level it is validated at: of all answers, or on bAbI the mean over its tasks, as the paper counts."""
    of_groups = run.case.task == "babi"
    errors = [
        one.error for one in run.evaluations if one.level == run.level and one.error is not None and (one.group is not None) == of_groups
    ]
    return float(np.mean(errors)) if errors else None
