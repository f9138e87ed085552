"""A suite on Ray: with a Ray that exists in this test only, what is stored and what comes back; and on a real cluster with a node lost."""

import importlib.util
import json
import platform
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from mann_bench.data.conditions import Conditions, changes
from mann_bench.data.errors import UsageError
from mann_bench.data.result import parse_line
from mann_bench.data.store import RunFolder, load_results, load_run
from mann_bench.data.suite import parse_suite
from mann_bench.run import on_ray
from mann_bench.run.on_ray import RESOURCE, SuiteOnRay
from mann_bench.run.ray_cluster import MOST_LOST, RayCluster
from mann_bench.run.session import describe
from tests.support.results import make_result

TEXT = """
name = "tiny"
[fixed]
steps = 2
[[sweep]]
models = ["lstm", "ntm"]
slots = ["8", "16", "32"]
[budget]
timing_seconds = 0.01
rounds = 1
"""
FACTS: Any = {"torch": "2.13.0", "cpu": "abacus"}


class RayError(Exception):
    """What Ray raises where a node or a worker ends."""


class RayTaskError(RayError):
    """What it raises where the task raised."""

    cause = None


class FakeRay:
    """Ray as far as it is used: a task runs when it is waited for, on the hosts in turn; `losses` are answers of tasks in their place."""

    def __init__(self, hosts=2) -> None:
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.offered, self.most, self.running = hosts, 0, 0
        self.losses: list[Exception | None] = []
        self.options: list[dict[str, Any]] = []
        self.budgets: list[dict[str, Any]] = []
        self.ids: dict[tuple[str, int], str] = {}
        self.facts = FACTS
        self.init: Any = lambda **_: None
        self.shutdown = lambda: None

    def nodes(self):
        dead = {"Alive": False, "Resources": {"CPU": 9.0, RESOURCE: 1.0}}
        return [dead, {"Alive": True, "Resources": {"CPU": 4.0}}] + [
            {"Alive": True, "Resources": {"CPU": 4.0, RESOURCE: 1.0}}
        ] * self.offered

    def remote(self, function):
        def options(**options):
            self.options.append(options)
            return SimpleNamespace(remote=self.start)

        return SimpleNamespace(options=options)

    def start(self, cases, budget):
        self.running += 1
        self.most = max(self.most, self.running)
        self.budgets.append(budget)
        return len(self.options), tuple((case["model"], case["slots"]) for case in cases)

    def wait(self, tasks, num_returns, timeout):
        return tasks[:1], tasks[1:]

    def get(self, task):
        self.running -= 1
        if self.losses and (loss := self.losses.pop(0)):
            raise loss
        number, cases = task
        lines = [make_result(model, slots, suite="tiny").model_copy(update={"case_id": self.ids[model, slots]}) for model, slots in cases]
        ran = {"host": f"node{number % 2}", "budget": {}, "environment": self.facts}
        return {"lines": [line.to_line() for line in lines], "ran": ran}


@pytest.fixture
def suite():
    return parse_suite(TEXT, "tiny.toml")


@pytest.fixture
def ray(monkeypatch, suite):
    fake = FakeRay()
    fake.ids = {(case.model, case.slots): case.case_id for case in suite.cases}
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


@pytest.fixture
def folder(tmp_path, suite):
    ids = [case.case_id for case in suite.cases]
    opened = RunFolder(tmp_path / "run", {"case_ids": ids, "suite": "tiny", "host": "driver", "environment": FACTS}, resume=False)
    yield opened
    opened.close()


def run(suite, folder):
    said: list[str] = []
    return list(SuiteOnRay(RayCluster("ray"), suite).run(suite, folder, lambda case, text: said.append(text)))


def test_each_comparison_is_a_task_with_a_host_to_itself(ray, suite, folder):
    results = run(suite, folder)
    assert {result.case_id for result in results} == {case.case_id for case in suite.cases}
    assert load_results(folder.path) == results
    assert ray.options == [{"num_cpus": 1, "num_gpus": 0, "resources": {RESOURCE: 1}, "max_retries": 0}] * 3
    assert ray.most == 2  # tasks at a time
    hosts = [result.host for result in results]
    assert hosts == ["node1", "node1", "node0", "node0", "node1", "node1"]
    conditions = load_run(folder.path)["resumed"]
    assert [conditions[result.conditions - 1]["host"] for result in results] == hosts
    assert run(suite, folder) == []


def test_a_comparison_whose_node_dies_goes_back_to_the_queue(ray, suite, folder):
    ray.losses = [RayError("the node died"), None, None, RayError("again")]
    results = run(suite, folder)
    assert sorted((result.case_id, result.status) for result in results) == sorted((case.case_id, "ok") for case in suite.cases)
    again = [result for result in results if result.attempt > 1]
    assert [(result.case.slots, result.attempt) for result in again] == [(8, 3), (8, 3)]
    assert again[0].warnings == ["try 3: the host of the one before ended (again)"]


def test_a_comparison_that_ends_every_host_is_stored_as_failed(ray, suite, folder):
    ray.offered = 1
    ray.losses = [RayError("died"), None, None] + [RayError("died")] * MOST_LOST
    results = run(suite, folder)
    failed = [result for result in results if result.status != "ok"]
    assert [(result.case.slots, result.status, result.attempt) for result in failed] == [(8, "error", 3), (8, "error", 3)]
    assert "its host ended under it 3 times" in (failed[0].reason or "")
    assert len(results) == 6


def test_a_task_that_raises_is_a_result(ray, suite, folder):
    ray.losses = [RayTaskError("ModuleNotFoundError: no mann_bench there")]
    failed = [result for result in run(suite, folder) if result.status != "ok"]
    assert [(result.case.slots, result.attempt) for result in failed] == [(8, 1), (8, 1)]
    assert "no mann_bench there" in (failed[0].reason or "")


def test_another_program_on_a_host_ends_the_run(ray, suite, folder):
    ray.facts = {"torch": "2.14.0"}
    with pytest.raises(UsageError, match=r"got on node1 torch: 2\.13\.0 and 2\.14\.0"):
        run(suite, folder)
    assert folder.records == []


@pytest.mark.parametrize(
    ("address", "hosts", "error", "message"),
    [
        ("dask", 1, None, "--on: expected ray or ray://HOST:PORT, got 'dask'"),
        ("ray://nowhere:1", 1, ConnectionError("no\n answer"), r"--on ray://nowhere:1: expected a Ray cluster, got none \(no answer\)"),
        ("ray", 0, None, r"--on ray: expected a host that offers CPU 1, mann_bench 1, got none; start each host with ray start"),
    ],
)
def test_what_is_no_cluster_leaves_no_folder(call, ray, suite, tmp_path, monkeypatch, address, hosts, error, message):
    def init(**_):
        if error:
            raise error

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TEXT)
    ray.offered, ray.init = hosts, init
    with pytest.raises(UsageError, match=message):
        SuiteOnRay(RayCluster(address), suite)
    done = call("run", "tiny.toml", "--on", address, "--out", "out")
    assert (done.returncode, done.stderr.count("\n"), (tmp_path / "out").exists()) == (2, 1, False), done.stderr


def test_a_try_that_fails_after_a_lost_one_is_the_second(ray, suite, folder):
    ray.offered = 1
    ray.losses = [RayError("died"), None, None, RayTaskError("no mann_bench there")]
    failed = [result for result in run(suite, folder) if result.status != "ok"]
    assert [(result.case.slots, result.attempt) for result in failed] == [(8, 2), (8, 2)]


def test_the_task_measures_a_comparison(ray, suite, folder, monkeypatch):
    run(suite, folder)
    monkeypatch.setattr(on_ray, "run_comparison", lambda cases, *_: (make_result(case.model, case.slots) for case in cases))
    monkeypatch.setattr(on_ray, "fingerprint", lambda: FACTS)
    monkeypatch.setattr("os.nice", lambda _: 15)
    cases = [case.model_dump(mode="json") for case in suite.cases[:2]]
    answer = on_ray.measure(cases, ray.budgets[0])
    assert (answer["ran"]["host"], answer["ran"]["environment"]) == (platform.node(), FACTS)
    driver: Conditions = {"host": platform.node(), "environment": FACTS, "budget": json.loads(json.dumps(suite.budget.model_dump()))}
    assert changes(driver, answer["ran"]) == []  # on the driver's own host the conditions are the driver's
    assert [parse_line(line.encode()).warnings for line in answer["lines"]] == [
        ["it ran at niceness 15: others went first; start Ray with RAY_worker_niceness=0"]
    ] * 2


def test_without_ray_the_extra_is_named(call, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'mann-bench\[ray\]'"):
        RayCluster("ray")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'mann-bench[ray]'")
@pytest.mark.filterwarnings("ignore")
def test_nodes_come_and_go(suite, tmp_path, monkeypatch):
    """A real cluster: a node is added and another is removed while comparisons run; every case is stored once."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # or workers of a busy machine wait for all others
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=1, resources={RESOURCE: 1}) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    folder = RunFolder(tmp_path / "run", describe(suite), resume=False)

    class Disturbed(SuiteOnRay):
        """A cluster that loses both of its nodes while they measure, when a third has joined."""

        def _start(self, comparison, budget):
            task = super()._start(comparison, budget)
            if self.cluster.room({RESOURCE: 1}) == 2 and len(starts) == 1:
                time.sleep(3)
                cluster.add_node(num_cpus=1, resources={RESOURCE: 1})
                for node in nodes:
                    cluster.remove_node(node, allow_graceful=False)
            starts.append(task)
            return task

    starts: list[Any] = []
    connection = RayCluster("ray")
    try:
        results = list(Disturbed(connection, suite).run(suite, folder, lambda case, text: None))
    finally:
        folder.close()
        connection.close()
        cluster.shutdown()
    assert sorted(result.case_id for result in load_results(folder.path)) == sorted(case.case_id for case in suite.cases)
    assert {(result.status, result.host) for result in results} == {("ok", platform.node())}
    assert len(starts) > 3
    assert {result.attempt for result in results} == {1, 2}
