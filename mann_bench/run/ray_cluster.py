"""Jobs on a Ray cluster: each on one host, and again on another if its host ends, `MOST_LOST` times at most.

Ray itself retries nothing: a worker that runs out of memory is a result.
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mann_bench.data.conditions import Conditions, differences
from mann_bench.data.errors import UsageError
from mann_bench.data.units import format_bytes
from mann_bench.run.replies import Failure

MOST_LOST = 2  # times that a job goes back to the queue
POLL_S = 2.0  # between two looks at what the cluster has
SAME = ("torch", "torch_cuda", "git")  # what must be equal on all hosts; kernels are compiled for each processor


class RayCluster:
    """A connection to a Ray cluster.

    Args:
        address: `ray`: the cluster of this host or of RAY_ADDRESS; `ray://HOST:PORT`: one elsewhere.

    Raises:
        UsageError: Ray is not installed, or there is no cluster.
    """

    def __init__(self, address: str) -> None:
        if address != "ray" and not address.startswith("ray://"):
            raise UsageError(f"--on: expected ray or ray://HOST:PORT, got {address!r}")
        try:
            import ray
        except ImportError as error:
            raise UsageError("--on ray: expected Ray, got none; pip install 'mann-bench[ray]', the same on every host") from error
        self.ray: Any = ray
        self.address = address
        where = os.environ.get("RAY_ADDRESS", "auto") if address == "ray" else address
        try:
            ray.init(address=where, log_to_driver=False, logging_level="ERROR", namespace="mann-bench")
        except Exception as error:  # Ray has many for a cluster that it cannot reach
            raise UsageError(
                f"--on {address}: expected a Ray cluster, got none ({' '.join(str(error).split())[:200]}); start one: ray start --head"
            ) from error

    def room(self, needs: Mapping[str, float]) -> int:
        """How many jobs that need so much (`CPU`, `GPU`, `memory` in bytes, resources by name) the hosts hold at once."""
        hosts = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        amounts = [(name, amount) for name, amount in needs.items() if amount]
        return sum(min(int(host.get(name, 0) / amount) for name, amount in amounts) for host in hosts)

    def require(self, needs: Mapping[str, float], advice: str) -> None:
        """Raise UsageError, and end the connection, if no host has room for one such job, which would wait for ever."""
        if not self.room(needs):
            self.close()
            texts = {name: format_bytes(amount) if name == "memory" else f"{amount:g}" for name, amount in needs.items() if amount}
            wanted = ", ".join(f"{name} {text}" for name, text in texts.items())
            raise UsageError(f"--on {self.address}: expected a host that offers {wanted}, got none; {advice}")

    def close(self) -> None:
        """End the connection, and with it the jobs."""
        with contextlib.suppress(Exception):
            self.ray.shutdown()


@dataclass(eq=False)
class Job:
    """What runs on one host of a cluster. `tries`: how often it was started; `lost`: how the hosts ended that it ran on."""

    tries: int = field(default=0, kw_only=True)
    lost: list[str] = field(default_factory=list, kw_only=True)


@dataclass(frozen=True)
class Requeued:
    """The host of a job ended, and the job waits for another."""

    reason: str


JobT = TypeVar("JobT", bound=Job)
AnswerT = TypeVar("AnswerT")


class Scheduler(Generic[JobT, AnswerT]):
    """The jobs that wait, and those that run, each by the reference to what it answers next.

    Args:
        start: starts a job and returns the reference to its first answer; None if nothing of it is left to do.
        room: how many may run at once, as the cluster is now.
    """

    def __init__(self, cluster: RayCluster, start: Callable[[JobT], object], room: Callable[[], int], jobs: Iterable[JobT] = ()) -> None:
        self.ray, self.start, self.room = cluster.ray, start, room
        self.waiting = deque(jobs)
        self.running: dict[object, JobT] = {}

    def __bool__(self) -> bool:
        return bool(self.waiting or self.running)

    def expect(self, job: JobT, reference: object) -> None:
        """Wait for a further answer of a job."""
        self.running[reference] = job

    def forget(self, job: JobT) -> None:
        """Expect nothing more of a job."""
        self.running = {reference: other for reference, other in self.running.items() if other is not job}
        self.waiting = deque(other for other in self.waiting if other is not job)

    def answers(self, seconds: float = POLL_S) -> list[tuple[JobT, AnswerT | Requeued | Failure]]:
        """Start jobs for which there is room, and wait for answers, `seconds` at most.

        Returns:
            Pairs of a job and what it answers; `Requeued` if its host ended; a `Failure` if it failed, or its host ended too often.
        """
        while self.waiting and len(self.running) < max(1, self.room()):
            job = self.waiting.popleft()
            if (reference := self.start(job)) is not None:
                job.tries += 1
                self.running[reference] = job
        if not self.running:
            return []
        self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        done, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        return [self._answer(self.running.pop(reference), reference) for reference in done]

    def _answer(self, job: JobT, reference: object) -> tuple[JobT, AnswerT | Requeued | Failure]:
        errors = self.ray.exceptions
        try:
            return job, self.ray.get(reference)
        except errors.RayTaskError as error:
            return job, Failure(status="error", reason=f"its task failed: {_one_line(error.cause or error, 500)}")
        except errors.RayError as error:
            job.lost.append(_one_line(error, 200))
        if len(job.lost) <= MOST_LOST:
            self.waiting.append(job)
            return job, Requeued(f"its host ended ({job.lost[-1]})")
        return job, Failure(status="error", reason=f"its host ended under it {len(job.lost)} times; the last: {job.lost[-1]}")


def check_same(driver: Conditions, host: Conditions) -> None:
    """Raise UsageError if a host runs another program than this process."""
    differing = differences(driver.get("environment", {}), host.get("environment", {}), SAME)
    if differing:
        raise UsageError(
            f"--on ray: expected the same program on every host, got on {host.get('host')} {'; '.join(differing)}; "
            "install the same there, and go on with --resume"
        )


def niceness_warning() -> list[str]:
    """A sentence if this process of Ray yields to others (niceness 15), as Ray makes its workers do unless told not to."""
    nice = os.nice(0)
    return [f"it ran at niceness {nice}: others went first; start Ray with RAY_worker_niceness=0"] if nice else []


def _one_line(error: object, most: int) -> str:
    return " ".join(str(error).split())[:most]
