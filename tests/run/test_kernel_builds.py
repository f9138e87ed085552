"""Native kernels are compiled before the time of any case begins, in whatever code it runs."""

from pathlib import Path
from typing import Any

import pytest

from mann_bench.data.suite import Budget, Suite
from mann_bench.run import builds, in_turn, profiling, runner
from mann_bench.run.in_turn import build_kernels_of, run_in_turn
from mann_bench.run.process import SAME_CODE, Code
from mann_bench.run.replies import Failure, Started
from mann_bench.run.sides import Side
from tests.support.results import make_result


@pytest.fixture
def events(monkeypatch):
    """What happens in order: (folder, command, model, dtype) of each command to a worker, and the flags of each build in this process;
    "node" is that of the node in torch's graph.
    """
    happened: list[Any] = []

    class Worker:
        used_s, output = 0.0, None

        def __init__(self, threads, code=SAME_CODE, cpus=()):
            self.checkout = code.checkout

        def wait_until_started(self):
            return Started()

        def ask(self, command, timeout_s, kind):
            case = command["case"]
            happened.append((self.checkout, command["do"], case["model"], case.get("dtype", "float32")))
            return Failure(status="error", reason="a worker of the test")

        def quit(self):
            happened.append((self.checkout, "quit"))

        def kill(self):
            pass

    for module in (in_turn, profiling, runner):
        monkeypatch.setattr(module, "WorkerProcess", Worker)
    monkeypatch.setattr(builds.build, "build", happened.append)
    monkeypatch.setattr(builds.extension, "library", lambda: happened.append("node"))
    return happened


def suite_of(*cases):
    return Suite(name="s", cases=list(cases), budget=Budget(rounds=1))


def test_a_run_builds_each_number_type_first(events):
    cases = [make_result("sam", dtype=dtype).case for dtype in ("bfloat16", "float64")]
    list(runner.run_side_by_side(cases, Budget(rounds=1), lambda case, text: None))
    flags = [event for event in events if "-shared" in event]
    assert [flags[0], "node", flags[1], "node"] == events[:4]
    assert {flag for part in flags for flag in part if flag.startswith("-DMB")} == {
        "-DMB_REAL=double",
        "-DMB_REAL=float",
        "-DMB_STORE_BF16",
    }


def test_a_profile_builds_first(events, tmp_path):
    profiling.profile_in_worker(make_result("sam").case, tmp_path, 2**30, 60)
    assert "-shared" in events[0]
    assert events[2][1] == "profile"


def test_each_checkout_builds_its_own_before_the_first_case(events, tmp_path):
    sides = Side("main", Code(tmp_path / "a")), Side("HEAD", Code(tmp_path / "b"))
    cases = [make_result("sam", dtype=dtype, slots=slots).case for dtype in ("float32", "float64") for slots in (8, 2**20)]
    run_in_turn((suite_of(*cases),) * 2, sides, tmp_path / "out", 1, lambda a, b: True, lambda text: None)
    builds = [(side.code.checkout, "prepare", "sam", dtype) for side in sides for dtype in ("float32", "float64")]
    assert events[: 2 * len(builds)] == [event for build in builds for event in (build, (build[0], "quit"))]
    assert not any("-shared" in event for event in events)


def test_checkouts_build_no_kernels_that_no_case_can_use(events, tmp_path):
    side = Side("main", Code(Path("a")))
    of_torch = [make_result(model, kernels="torch").case for model in ("ntm", "sam")]
    other_ways = [make_result("ntm", variant=variant).case for variant in ("checkpointed", "compiled")]
    build_kernels_of(side, [make_result("lstm").case, *of_torch, *other_ways, make_result("dam", device="cuda").case])
    assert events == []
    build_kernels_of(side, [make_result("dnc").case, make_result("ntm", variant="native-checkpointed").case])
    assert events == [(Path("a"), "prepare", "ntm", "float32"), (Path("a"), "quit")]
    events.clear()
    for model in ("op:sparse_read", "index:query", "sdnc", "own:Model"):
        build_kernels_of(side, [make_result(model).case])
        assert events.pop() == (Path("a"), "quit")
        assert events.pop() == (Path("a"), "prepare", "sam", "float32")


def test_for_models_of_the_users_this_process_builds(events):
    build_kernels_of(Side("main", SAME_CODE), [make_result("lstm").case])
    assert events == []
    build_kernels_of(Side("main", SAME_CODE), [make_result("ntm").case])  # a dense model has no such node
    assert ["-DMB_DENSE" in event for event in events] == [True]
    events.clear()
    build_kernels_of(Side("main", SAME_CODE), [make_result("own:Model", slots=slots).case for slots in (4, 8)])
    assert ["-shared" in event for event in events] == [True, False]
