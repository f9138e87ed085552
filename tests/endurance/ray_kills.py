"""Kill -9 drivers, tasks and nodes of sweeps on a Ray cluster, at random, and go on with them: nothing that finished is lost or repeated.

python -m tests.endurance.ray_kills KILLS [--seed N] [--out FILE]        FILE: counts and faults as JSON, after every sweep

The cluster is of two node processes on this machine; one that is killed is replaced.
"""

import contextlib
import os
import random
import signal
import tempfile
from pathlib import Path
from typing import Any

import psutil

from mann_bench.run.on_ray import RESOURCE
from mann_bench.run.ray_cluster import MOST_LOST
from tests.endurance.forking import Forker, python_path
from tests.endurance.killing import ROOT, Tally, Trial, main
from tests.endurance.kills import SUITE, check_results

TARGETS = ("driver", "driver", "task", "node")
NODE = {"num_cpus": 1, "resources": {RESOURCE: 1}}


class RaySweep(Trial):
    """A sweep on the cluster. Its signals are all SIGKILL, to the driver, to a process of Ray that measures, or to a node."""

    signals = (signal.SIGKILL,)

    def __init__(self, forker: Forker, folder: Path, cluster: Any, nodes: list[Any]) -> None:
        super().__init__(forker, folder, ["run", "kills.toml", "--on", "ray"], "results.jsonl", 3, lambda record: record["case_id"])
        self.cluster, self.nodes = cluster, nodes

    def kill(self, target: str, number: signal.Signals, chance: random.Random, grown_s: float | None) -> tuple[str, str] | None:
        if self.driver.poll() is not None:
            return None
        target, moment = chance.choice(TARGETS), self.moment(grown_s)
        if target == "node":
            self.cluster.remove_node(self.nodes.pop(chance.randrange(len(self.nodes))), allow_graceful=False)
            self.nodes.append(self.cluster.add_node(**NODE))
            return target, moment
        tasks = measuring() if target == "task" else []
        target = "task" if tasks else "driver"
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(tasks) if tasks else self.driver.pid, number)
            return target, moment
        return None


def measuring() -> list[int]:
    """Process ids of Ray's workers that carry out a task of ours."""
    return [process.pid for process in psutil.process_iter() if any("ray::measure" in word for word in words(process))]


def words(process: psutil.Process) -> list[str]:
    """The command line of a process; none if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def trial(forker: Forker, chance: random.Random, tally: Tally, cluster: Any, nodes: list[Any]) -> None:
    """One sweep, killed until it is complete or no more kills are wanted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kills.toml").write_text(SUITE.format(models='["lstm"]'))
        before = tally.by["target"]["task"] + tally.by["target"]["node"]
        sweep = RaySweep(forker, folder, cluster, nodes)
        sweep.run(chance, tally)
        if not sweep.is_complete:
            tally.wanted = 0
            return tally.close(sweep.faults)
        lost_hosts = tally.by["target"]["task"] + tally.by["target"]["node"] - before
        sweep.at_workers = 2 * (lost_hosts // (MOST_LOST + 1))  # so many may have ended as failed: each lost its host three times
        statuses = check_results(sweep, f"its host ended under it {MOST_LOST + 1} times; the last: .*")
        tally.close(sweep.faults, sweeps=1, starts=sweep.starts, cases_ok=statuses["ok"], cases_killed_thrice=statuses["error"])


def run(kills: int, seed: int = 0, jobs: int = 1, file: Path | None = None) -> dict[str, Any]:
    """Make so many kills; return counts of what was done, and the faults found. `jobs` must be 1: there is one cluster."""
    from ray.cluster_utils import Cluster

    if jobs != 1:
        raise SystemExit("--jobs: expected 1, as there is one cluster")
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 Ray's name of it
    os.environ["PYTHONPATH"] = python_path(ROOT)  # nodes run this checkout too
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
    os.environ["RAY_ADDRESS"] = cluster.address
    tally, chance = Tally(kills, seed, file), random.Random(seed)
    try:
        with Forker(ROOT) as forker:
            while not tally.is_done:  # in this thread: Ray starts nodes in no other
                trial(forker, chance, tally, cluster, nodes)
    finally:
        cluster.shutdown()
    return tally.summary()


if __name__ == "__main__":
    main(__doc__, run)
