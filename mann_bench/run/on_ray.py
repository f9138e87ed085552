"""Run a suite on a Ray cluster: this process holds the one writer, a task measures one comparison, alone on its host.

Each host offers the resource `RESOURCE` once (`ray start --resources='{"mann_bench": 1}'`), and a task takes it. Ray retries nothing: a
worker that runs out of memory is a result. A comparison whose host ends goes back to the queue, `MOST_LOST` times at most. A host that
joins gets a task at once.
"""

import contextlib
import os
import platform
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mann_bench.data.case import Case
from mann_bench.data.conditions import Conditions, differences
from mann_bench.data.errors import UsageError
from mann_bench.data.result import Result, now, parse_line
from mann_bench.data.store import RunFolder
from mann_bench.data.suite import Budget, Suite
from mann_bench.machine.environment import fingerprint
from mann_bench.run.replies import Failure
from mann_bench.run.runner import Announce, StoppedCurves, comparisons, not_started, run_comparison

RESOURCE = "mann_bench"
MOST_LOST = 2  # times that a comparison goes back to the queue
POLL_S = 2.0  # between two looks at what the cluster has
SAME = ("torch", "torch_cuda", "git")  # what must be equal on all hosts; kernels are compiled for each processor


@dataclass(eq=False)
class _Comparison:
    """Cases that one task measures; `lost` names the hosts that ended meanwhile."""

    cases: list[Case]
    lost: list[str] = field(default_factory=list)


class RayCluster:
    """A connection to a Ray cluster.

    Args:
        address: `ray`: the cluster of this host or of RAY_ADDRESS; `ray://HOST:PORT`: one elsewhere.

    Raises:
        UsageError: Ray is not installed, there is no cluster, or no host of it offers the resource.
    """

    def __init__(self, address: str) -> None:
        if address != "ray" and not address.startswith("ray://"):
            raise UsageError(f"--on: expected ray or ray://HOST:PORT, got {address!r}")
        try:
            import ray
        except ImportError as error:
            raise UsageError("--on ray: expected Ray, got none; pip install 'mann-bench[ray]', the same on every host") from error
        self.ray: Any = ray
        where = os.environ.get("RAY_ADDRESS", "auto") if address == "ray" else address
        try:
            ray.init(address=where, log_to_driver=False, logging_level="ERROR", namespace="mann-bench")
        except Exception as error:  # Ray has many for a cluster that it cannot reach
            raise UsageError(
                f"--on {address}: expected a Ray cluster, got none ({' '.join(str(error).split())[:200]}); "
                f"start one: ray start --head --resources='{{\"{RESOURCE}\": 1}}'"
            ) from error
        if not self.hosts():
            self.close()
            raise UsageError(
                f"--on {address}: expected hosts that offer the resource {RESOURCE}, got none; "
                f"start each with ray start --resources='{{\"{RESOURCE}\": 1}}', so that a comparison has its host to itself"
            )

    def hosts(self) -> int:
        """How many comparisons can be measured at the same time."""
        return int(self.ray.cluster_resources().get(RESOURCE, 0))

    def close(self) -> None:
        """End the connection, and with it the tasks."""
        with contextlib.suppress(Exception):
            self.ray.shutdown()

    def run(self, suite: Suite, folder: RunFolder, announce: Announce) -> Iterator[Result]:
        """Run the cases that the folder does not hold yet, as `run_suite` does; each result is on disk before it is yielded."""
        stopped = StoppedCurves(folder.records)
        groups = [[case for case in group if case.case_id not in folder.finished] for group in comparisons(suite.cases, suite.interleave)]
        waiting = deque(_Comparison(group) for group in groups if group)
        running: dict[Any, _Comparison] = {}
        while waiting or running:
            while waiting and len(running) < max(1, self.hosts()):
                comparison = waiting.popleft()
                refused = [(case, reason) for case in comparison.cases if (reason := stopped.reason(case))]
                for case, reason in refused:
                    yield folder.append(not_started(case, Failure(status="skipped", reason=reason)))
                comparison.cases = [case for case in comparison.cases if case not in [refusal[0] for refusal in refused]]
                if comparison.cases:
                    announce(comparison.cases[0], f"with {len(comparison.cases) - 1} others on a host of the cluster")
                    running[self._start(comparison.cases, suite.budget)] = comparison
            done, _ = self.ray.wait(list(running), num_returns=1, timeout=POLL_S) if running else ([], [])
            for task in done:
                for result in self._results(task, running.pop(task), waiting, folder):
                    stopped.note(result)
                    yield result

    def _start(self, cases: Sequence[Case], budget: Budget) -> Any:
        """Start the task of a comparison."""
        gpus = 1 if any(case.device.startswith("cuda") for case in cases) else 0
        needs = {"num_cpus": max(case.threads for case in cases), "num_gpus": gpus, "resources": {RESOURCE: 1}}
        task = self.ray.remote(measure).options(**needs, max_retries=0)
        return task.remote([case.model_dump(mode="json") for case in cases], budget.model_dump())

    def _results(self, task: Any, comparison: _Comparison, waiting: deque[_Comparison], folder: RunFolder) -> Iterator[Result]:
        """Store what a task returns. If its host ended, the comparison goes back to the queue, or is stored as failed."""
        errors = self.ray.exceptions
        try:
            answer = self.ray.get(task)
        except errors.RayTaskError as error:
            reason = f"its task failed: {' '.join(str(error.cause or error).split())[:500]}"
        except errors.RayError as error:
            comparison.lost.append(" ".join(str(error).split())[:200])
            if len(comparison.lost) <= MOST_LOST:
                waiting.append(comparison)
                return
            reason = f"its host ended while it was measured, {len(comparison.lost)} times; the last: {comparison.lost[-1]}"
        else:
            check_same(folder.conditions, answer["ran"])
            for line in answer["lines"]:
                yield folder.append(self._noted(parse_line(line.encode()), comparison), answer["ran"], lost=len(comparison.lost))
            return
        for case in comparison.cases:
            yield folder.append(not_started(case, Failure(status="error", reason=reason)), lost=max(0, len(comparison.lost) - 1))

    def _noted(self, result: Result, comparison: _Comparison) -> Result:
        """The result with a warning that earlier tries of it were lost."""
        if not comparison.lost:
            return result
        text = f"try {len(comparison.lost) + 1}: the host of the one before ended ({comparison.lost[-1]})"
        return result.model_copy(update={"warnings": [*result.warnings, text]})


def measure(cases: list[dict[str, Any]], budget: dict[str, Any]) -> dict[str, Any]:
    """The task: measure a comparison on the host where it runs.

    Returns:
        `lines`: the results as they are stored; `ran`: the conditions they were measured under. Ray makes its workers yield to others
        (niceness 15) unless told not to, which the results then say.
    """
    limits = Budget.model_validate(budget)
    ran: Conditions = {"started_at": now(), "host": platform.node(), "budget": budget, "environment": fingerprint()}
    parsed = [Case.model_validate(case) for case in cases]
    results = run_comparison(parsed, limits, StoppedCurves([]), lambda case, text: None)
    warnings = [f"it ran at niceness {nice}: others went first; start Ray with RAY_worker_niceness=0"] if (nice := os.nice(0)) else []
    noted = (result.model_copy(update={"warnings": [*result.warnings, *warnings]}) for result in results)
    return {"lines": [result.to_line() for result in noted], "ran": ran}


def check_same(driver: Conditions, host: Conditions) -> None:
    """Raise UsageError if a host runs another program than this process."""
    differing = differences(driver.get("environment", {}), host.get("environment", {}), SAME)
    if differing:
        raise UsageError(
            f"--on ray: expected the same program on every host, got on {host.get('host')} {'; '.join(differing)}; "
            "install the same there, and go on with --resume"
        )
