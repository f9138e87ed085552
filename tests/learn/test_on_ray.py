"""Training on Ray: with actors of this process, what is stored, sent along and tried again; and on a real cluster with nodes lost."""

import importlib.util
import io
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from mann_bench.data.errors import UsageError
from mann_bench.data.store import load_records, load_run
from mann_bench.learn import on_ray, processes
from mann_bench.learn import session as module
from mann_bench.learn.on_ray import TEMPORARY, RayHosts, TrainingHost, needs_of, remove_left_folders
from mann_bench.learn.processes import ThisMachine
from mann_bench.learn.record import LEARNING, LearningCase
from mann_bench.learn.session import LearningSession
from mann_bench.run.ray_cluster import MOST_LOST, RayCluster
from mann_bench.run.replies import Failure, Killed
from tests.learn.test_session import GOOD, ScriptedProcess
from tests.support.training import small_case

FACTS: Any = {"torch": "2.13.0"}


class RayError(Exception):
    """What Ray raises where a node or a worker ends."""


class RayTaskError(RayError):
    """What it raises where the task raised."""

    cause = None


@dataclass(eq=False)
class Reference:
    """A call of an actor, whose answer may be asked for."""

    made: Any
    name: str
    given: tuple[Any, ...]


class FakeRay:
    """Ray with actors in this process, whose methods run when their answer is asked for. `losses` come in place of answers, in order."""

    def __init__(self, *losses: Exception | None) -> None:
        self.losses, self.options, self.actors = list(losses), list[dict[str, Any]](), list[Any]()
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 2.0, "memory": 2.0**31}}]

    def remote(self, kind):
        def options(**options):
            self.options.append(options)
            return SimpleNamespace(remote=lambda: self.actor(kind()))

        return SimpleNamespace(options=options)

    def actor(self, made):
        self.actors.append(made)

        def method(name):
            return SimpleNamespace(remote=lambda *given: Reference(made, name, given))

        return SimpleNamespace(**{name: method(name) for name in ("start", "listen", "stop", "end")})

    def wait(self, references, num_returns, timeout):
        return references[:1], references[1:]

    def get(self, reference, timeout=None):
        name = reference.name
        if name in ("start", "listen") and self.losses and (loss := self.losses.pop(0)):
            if not isinstance(loss, RayTaskError) and reference.made.training is not None:
                reference.made.training.end()  # the actor's process ends with its host
            raise loss
        return getattr(reference.made, name)(*reference.given)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """What an actor meets on its host: scripted processes, and a folder for temporary files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(processes, "TrainingProcess", ScriptedProcess)
    monkeypatch.setattr(on_ray, "build_kernels", list)
    monkeypatch.setattr(on_ray, "fingerprint", lambda: FACTS)
    monkeypatch.setattr(on_ray, "platform", SimpleNamespace(node=lambda: "far"))
    monkeypatch.setattr(module, "fingerprint", lambda: FACTS)
    ScriptedProcess.commands = []
    return tmp_path


def train(ray, *scripts, checkpoint=None, said=None):
    """Run a session on the cluster; each run has a list of scripts, one a try."""
    ScriptedProcess.scripts = {seed: list(script) for seed, script in enumerate(scripts)}
    cases = [LearningCase(task="copy", model="lstm", seed=seed, levels=(1, 2), sequences=10) for seed in range(len(scripts))]
    console = Console(file=said, width=200) if said else Console(quiet=True)
    session = LearningSession(cases, None, Path("out"), resume=False, console=console, every_s=60, evaluation_s=60)
    if checkpoint is not None:
        (Path("out/checkpoints")).mkdir()
        Path(f"out/checkpoints/{cases[0].run_id}.pt").write_bytes(checkpoint)
    session.run(RayHosts(SimpleNamespace(ray=ray, room=lambda needs: 2), {"CPU": 1.0, "GPU": 0.0, "memory": 2.0**20}))  # type: ignore[arg-type]
    return {result.case.seed: result for result in load_records(Path("out"), LEARNING)}


def test_a_run_is_an_actor_that_nothing_retries(host):
    ray = FakeRay()
    results = train(ray, [[GOOD]], [[GOOD]], [[GOOD]])
    assert {seed: (result.status, result.host, result.attempt) for seed, result in results.items()} == dict.fromkeys(
        range(3), ("budget", "far", 1)
    )
    limits = {"num_cpus": 1.0, "num_gpus": 0.0, "memory": 2.0**20}
    assert ray.options == [{**limits, "max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2}] * 3
    assert [conditions["host"] for conditions in load_run(Path("out")).get("resumed", [])] == ["far"]
    assert list((host / "tmp").iterdir()) == []


def test_a_run_whose_host_ends_goes_on_from_its_checkpoint(host):
    said = io.StringIO()
    results = train(FakeRay(None, RayError("the node died")), [[], [GOOD]], checkpoint=b"what it knew", said=said)
    assert (results[0].status, results[0].attempt) == ("budget", 2)
    assert len(ScriptedProcess.commands) == 2
    assert "lstm seed 0: its host ended (the node died); it goes on elsewhere from its checkpoint" in said.getvalue()


def test_a_run_that_ends_every_host_is_stored_as_failed(host):
    results = train(FakeRay(*[RayError("died")] * (MOST_LOST + 1)), [[GOOD]])
    assert (results[0].status, results[0].attempt) == ("error", MOST_LOST + 1)
    assert "its host ended under it 3 times; the last: died" in str(results[0].reason)


def test_an_actor_that_raises_is_a_result(host):
    results = train(FakeRay(RayTaskError("no mann_bench there")), [[GOOD]], [[GOOD]])
    assert {seed: (result.status, result.attempt) for seed, result in results.items()} == {0: ("error", 1), 1: ("budget", 1)}


def test_what_a_host_lacks_is_said_by_it(host, monkeypatch):
    monkeypatch.setattr(on_ray, "why_not_here", lambda *_: "no GPU there")
    assert [(result.status, result.reason) for result in train(FakeRay(), [[GOOD]]).values()] == [("unavailable", "no GPU there")]


def test_a_process_that_is_killed_is_tried_once_more_there(host):
    killed = Killed(status="error", reason="killed by SIGKILL")
    results = train(FakeRay(), [[killed], [GOOD]], [[killed], [killed]])
    assert {seed: (result.status, result.attempt) for seed, result in results.items()} == {0: ("budget", 1), 1: ("error", 1)}


def test_a_failed_process_leaves_its_last_words(host):
    results = train(FakeRay(), [[Failure(status="error", reason="exited with code 1")]])
    assert (results[0].status, results[0].output) == ("error", "its last words")


def test_another_program_on_a_host_ends_the_session(host, monkeypatch):
    monkeypatch.setattr(on_ray, "fingerprint", iter([FACTS, {"torch": "2.14.0"}]).__next__)
    with pytest.raises(UsageError, match=r"got on far torch: 2\.13\.0 and 2\.14\.0"):
        train(FakeRay(), [[GOOD]])
    assert Path("out/learning.jsonl").read_bytes() == b""


def test_each_new_checkpoint_comes_along_once(host):
    ScriptedProcess.scripts = {0: [[]]}
    actor = TrainingHost()
    command = {"case": LearningCase(task="copy", model="lstm", levels=(1, 2), sequences=10).model_dump(), "data": None}
    actor.start(command, b"old")
    assert actor.file.read_bytes() == b"old"
    assert actor.listen().checkpoint is None
    on_ray.write_atomically(actor.file, b"new")
    assert [actor.listen().checkpoint for _ in range(2)] == [b"new", None]
    folder = actor.file.parent
    (host / "tmp" / f"{TEMPORARY}-{2**22 + 1}-x").mkdir()  # of a process that is gone
    remove_left_folders()
    assert list((host / "tmp").iterdir()) == [folder]
    actor.end()
    assert list((host / "tmp").iterdir()) == []


def test_what_a_run_takes_of_its_host():
    cases = [small_case(threads=2, memory_bytes=2**30), small_case(memory_bytes=2**31)]
    assert needs_of(cases) == {"CPU": 2.0, "GPU": 0.0, "memory": 2.0**31}
    assert needs_of([small_case(device="cuda", memory_bytes=2**30)]) == {"CPU": 1.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--on", "ray"], "--on: expected --memory, as 2G, the same on every host, got none"),
        (["--on", "dask", "--memory", "1G"], "--on: expected ray or ray://HOST:PORT, got 'dask'"),
        (["--on", "ray", "--memory", "1024G"], "--on ray: expected a host that offers CPU 1, memory 1,024 GiB, got none; add one"),
    ],
)
def test_bad_usage_leaves_no_folder(call, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    ray = FakeRay()
    ray.init = ray.shutdown = lambda **_: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    done = call("learn", "copy", *options, "--out", "out")
    assert (done.returncode, done.stderr.count("\n"), Path("out").exists()) == (2, 1, False), done.stderr
    assert message in done.stderr


SIZES = {"slots": 8, "hidden": 8, "word_size": 6, "heads": 2, "reads": 2, "batch": 4, "levels": (1, 2), "memory_bytes": 2**28}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'mann-bench[ray]'")
@pytest.mark.filterwarnings("ignore")
def test_runs_outlive_their_nodes(tmp_path, monkeypatch):
    """A real cluster: a node joins and the two that train are removed. Every run ends as on this machine, from its checkpoint."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # or workers of a busy machine wait for all others
    cases = [small_case(**{**SIZES, "model": model, "sequences": 6000}) for model in ("lstm", "sam")]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    connection = RayCluster("ray")
    said = io.StringIO()

    class Disturbed(RayHosts):
        """Hosts that are replaced by another as soon as each run has left a checkpoint."""

        def wait(self):
            if nodes and len(list(tmp_path.glob("far/checkpoints/*.pt"))) == len(cases):
                cluster.add_node(num_cpus=1)
                while nodes:
                    cluster.remove_node(nodes.pop(), allow_graceful=False)
            yield from super().wait()

    def session(name):
        console = Console(file=said, width=300)
        return LearningSession(cases, None, tmp_path / name, resume=False, console=console, every_s=0.2, evaluation_s=60)

    try:
        session("far").run(Disturbed(connection, needs_of(cases)))
    finally:
        connection.close()
        cluster.shutdown()
    session("near").run(ThisMachine(2))
    far, near = ({result.run_id: result for result in load_records(tmp_path / name, LEARNING)} for name in ("far", "near"))
    assert said.getvalue().count("it goes on elsewhere from its checkpoint") == 2
    for run_id, result in near.items():
        assert (far[run_id].status, far[run_id].attempt, far[run_id].host) == (result.status, 2, result.host)
        assert far[run_id].resumed >= 1
        curves = [[point.model_dump(exclude={"wall_s"}) for point in each.curve] for each in (far[run_id], result)]
        assert curves[0] == curves[1]
        assert far[run_id].evaluations == result.evaluations
