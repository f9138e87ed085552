"""Run a suite on a Ray cluster: this process holds the one writer, a task measures one comparison, alone on its host.

Each host offers the resource `RESOURCE` once (`ray start --resources='{"mann_bench": 1}'`), and a task takes it. A host that joins gets a
task at once.
"""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

from mann_bench.data.case import Case
from mann_bench.data.conditions import Conditions
from mann_bench.data.fields import Json
from mann_bench.data.result import Result, now, parse_line
from mann_bench.data.store import RunFolder
from mann_bench.data.suite import Budget, Suite
from mann_bench.machine.environment import fingerprint
from mann_bench.run.ray_cluster import Job, RayCluster, Requeued, Scheduler, check_same, niceness_warning
from mann_bench.run.replies import Failure
from mann_bench.run.runner import Announce, StoppedCurves, comparisons, not_started, run_comparison

RESOURCE = "mann_bench"
ADVICE = f"start each host with ray start --resources='{{\"{RESOURCE}\": 1}}', so that a comparison has its host to itself"


@dataclass(eq=False)
class _Comparison(Job):
    """Cases that one task measures."""

    cases: list[Case]

    @property
    def needs(self) -> dict[str, float]:
        """What it takes of a host."""
        gpus = 1 if any(case.device.startswith("cuda") for case in self.cases) else 0
        return {"CPU": max(case.threads for case in self.cases), "GPU": gpus, RESOURCE: 1}


class Measured(TypedDict):
    """What a task answers: the results as they are stored, and the conditions they were measured under."""

    lines: list[str]
    ran: Conditions


class SuiteOnRay:
    """A suite on a cluster; UsageError if no host of it can measure a comparison of the suite."""

    def __init__(self, cluster: RayCluster, suite: Suite) -> None:
        self.cluster = cluster
        for needs in {tuple(_Comparison(group).needs.items()) for group in comparisons(suite.cases, suite.interleave)}:
            cluster.require(dict(needs), ADVICE)

    def run(self, suite: Suite, folder: RunFolder, announce: Announce) -> Iterator[Result]:
        """Run the cases that the folder does not hold yet, as `run_suite` does; each result is on disk before it is yielded."""
        stopped, refused = StoppedCurves(folder.records), list[Result]()
        groups = [[case for case in group if case.case_id not in folder.finished] for group in comparisons(suite.cases, suite.interleave)]

        def start(comparison: _Comparison) -> object:
            """Start the task of a comparison, without cases that a stopped curve makes needless."""
            reasons = {case.case_id: reason for case in comparison.cases if (reason := stopped.reason(case))}
            for case in comparison.cases:
                if case.case_id in reasons:
                    refused.append(folder.append(not_started(case, Failure(status="skipped", reason=reasons[case.case_id]))))
            comparison.cases = [case for case in comparison.cases if case.case_id not in reasons]
            if not comparison.cases:
                return None
            announce(comparison.cases[0], f"with {len(comparison.cases) - 1} others on a host of the cluster")
            return self._start(comparison, suite.budget)

        jobs = [_Comparison(group) for group in groups if group]
        scheduler = Scheduler[_Comparison, Measured](self.cluster, start, lambda: self.cluster.room({RESOURCE: 1}), jobs)
        while scheduler:
            for comparison, answer in scheduler.answers():
                for result in _stored(comparison, answer, folder):
                    stopped.note(result)
                    yield result
            yield from refused
            refused.clear()

    def _start(self, comparison: _Comparison, budget: Budget) -> object:
        """Start the task of a comparison."""
        needs = comparison.needs
        options = {"num_cpus": needs["CPU"], "num_gpus": needs["GPU"], "resources": {RESOURCE: 1}, "max_retries": 0}
        task = self.cluster.ray.remote(measure).options(**options)
        return task.remote([case.model_dump(mode="json") for case in comparison.cases], budget.model_dump())


def _stored(comparison: _Comparison, answer: Measured | Requeued | Failure, folder: RunFolder) -> Iterator[Result]:
    """Store what a task answers."""
    lost = comparison.tries - 1
    if isinstance(answer, Failure):
        for case in comparison.cases:
            yield folder.append(not_started(case, answer), lost=lost)
    elif not isinstance(answer, Requeued):
        check_same(folder.conditions, answer["ran"])
        earlier = [f"try {lost + 1}: the host of the one before ended ({comparison.lost[-1]})"] if lost else []
        for line in answer["lines"]:
            result = parse_line(line.encode())
            yield folder.append(result.model_copy(update={"warnings": [*result.warnings, *earlier]}), answer["ran"], lost=lost)


def measure(cases: list[dict[str, Json]], budget: dict[str, Json]) -> Measured:
    """The task: measure a comparison on the host where it runs."""
    limits = Budget.model_validate(budget)
    ran: Conditions = {"started_at": now(), "host": platform.node(), "budget": budget, "environment": fingerprint()}
    parsed = [Case.model_validate(case) for case in cases]
    results = run_comparison(parsed, limits, StoppedCurves([]), lambda case, text: None)
    warnings = niceness_warning()
    noted = (result.model_copy(update={"warnings": [*result.warnings, *warnings]}) for result in results)
    return {"lines": [result.to_line() for result in noted], "ran": ran}
