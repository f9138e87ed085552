"""The runner with models that raise, return wrong values, hang, use too much memory or die: each is a result, and the sweep continues."""

import textwrap

import pytest

from mann_bench.data.conditions import RunDescription
from mann_bench.data.store import RunFolder, load_results
from mann_bench.data.suite import Budget, parse_suite
from mann_bench.measure.predict import Prediction
from mann_bench.measure.timing import Round
from mann_bench.run.process import WorkerProcess
from mann_bench.run.replies import Failure
from mann_bench.run.runner import StoppedCurves, comparisons, fit_batches, precheck, run_suite
from tests.support.results import make_result

BAD_MODELS = """
    import os, time, torch
    from torch import nn

    class Good(nn.Module):
        def __init__(self, input_size, output_size):
            super().__init__()
            self.layer = nn.Linear(input_size, output_size)
        def forward(self, x, state):
            print("models may print")
            return self.layer(x), None

    class WrongShape(Good):
        def forward(self, x, state):
            return x, None

    class Hangs(Good):
        def forward(self, x, state):
            time.sleep(1000)

    class Greedy(Good):
        def forward(self, x, state):
            torch.ones(2**30)
            return super().forward(x, state)

    class Killed(Good):
        def forward(self, x, state):
            os.kill(os.getpid(), 9)

    class Leaves(Good):
        def forward(self, x, state):
            os._exit(3)

    def raises(input_size):
        raise RuntimeError("no such luck\\nsecond line")
"""

SMALL = ["raises", "WrongShape", "Killed", "Leaves"]  # what stops these does not depend on the memory
BOTH = ["Good", "Hangs", "Greedy", "ntm"]


@pytest.fixture
def suite(tmp_path, monkeypatch):
    (tmp_path / "bad_models.py").write_text(textwrap.dedent(BAD_MODELS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def sweep(names, *slots):
        models = [name if name == "ntm" else f"bad_models:{name}" for name in names]
        return f"[[sweep]]\nmodels = {models}\nslots = {list(slots)}\n"

    budget = '[budget]\ncase_seconds = 8\ntiming_seconds = 0.2\nmemory = "1G"\n'
    return parse_suite(f'name = "bad"\n{sweep(SMALL, "64")}{sweep(BOTH, "64", "4M")}{budget}', "bad.toml")


def run_of(suite, names, case_seconds, folder_path):
    """The results of these models by (name, slots), each with so much time."""
    cases = [case for case in suite.cases if case.model.removeprefix("bad_models:") in names]
    budget = suite.budget.model_copy(update={"case_seconds": case_seconds})
    folder = RunFolder(folder_path, {"case_ids": [], "suite": "bad"}, resume=False)
    yielded = list(run_suite(suite.model_copy(update={"cases": cases, "budget": budget}), folder))
    folder.close()
    assert load_results(folder_path) == yielded
    return {(result.case.model.removeprefix("bad_models:"), result.case.slots): result for result in yielded}


def test_every_failure_is_a_result_and_the_sweep_continues(suite, tmp_path):
    names = [name for name in SMALL + BOTH if name != "Hangs"]
    at = run_of(suite, names, 60, tmp_path / "run")
    status = {name: at[name, 64].status for name in names}
    assert status == {
        "Good": "ok",
        "raises": "error",
        "WrongShape": "error",
        "Greedy": "oom",
        "Killed": "error",
        "Leaves": "error",
        "ntm": "ok",
    }
    assert at["raises", 64].reason == "RuntimeError: no such luck"
    assert "expected y of shape [T, B, Y] = [1, 1, 8], got [1, 1, 10]" in str(at["WrongShape", 64].reason)
    assert "SIGKILL" in str(at["Killed", 64].reason)
    assert "exited with code 3" in str(at["Leaves", 64].reason)
    assert at["Good", 64].memory is not None
    time = at["Good", 64].time
    assert time is not None
    assert time.pass_ms.count >= 2

    assert at["Greedy", 2**22].status == "skipped"
    assert at["ntm", 2**22].status == "skipped"
    assert "predicted" in str(at["ntm", 2**22].reason)
    assert at["Good", 2**22].status == "ok"


@pytest.mark.timed
def test_a_model_that_hangs_is_a_result_and_the_sweep_continues(suite, tmp_path):
    at = run_of(suite, ["Good", "Hangs"], 8, tmp_path / "run")
    assert {name: at[name, 64].status for name in ("Good", "Hangs")} == {"Good": "ok", "Hangs": "timeout"}
    assert "within" in str(at["Hangs", 64].reason)
    assert at["Hangs", 2**22].status == "skipped"
    assert "its curve stopped at N = 64 (timeout" in str(at["Hangs", 2**22].reason)
    assert at["Good", 2**22].status == "ok"


def test_kernel_oom_kill_is_distinguished_from_kill_9(monkeypatch):
    kills = iter([0, 1])
    monkeypatch.setattr("mann_bench.run.process.oom_kills", lambda: next(kills))
    worker = WorkerProcess(threads=1)
    worker._process.kill()
    reply = worker.ask({"do": "round"}, 10, Round)
    worker.kill()
    assert reply == Failure(status="oom", reason="ended by the kernel's out-of-memory killer")


def test_cases_on_a_gpu_leave_room_for_what_a_process_there_takes(monkeypatch):
    """Of 80 GiB free, 64 may be used. A case takes 1.3 times its predicted bytes and a GiB."""
    gib = 2**30
    monkeypatch.setattr("mann_bench.run.runner.free_bytes", lambda device: 80 * gib)
    sizes = {"ntm": 30 * gib, "dam": 15 * gib, "sam": 0}
    monkeypatch.setattr("mann_bench.run.runner.predict", lambda case, budget: Prediction({"state": sizes[case.model]}, 1.0))
    cases = [make_result(model, 64, device="cuda").case for model in ("ntm", "dam", "sam", "sam", "sam")]

    def batches():
        return [[case.model for case in batch] for batch in fit_batches(cases, Budget())]

    assert batches() == [["ntm", "dam", "sam", "sam", "sam"]]
    sizes["dam"] = 18 * gib
    assert batches() == [["ntm"], ["dam", "sam", "sam", "sam"]]


def test_comparisons_differ_in_what_is_compared_only(suite):
    groups = comparisons(suite.cases)
    assert [len(group) for group in groups] == [8, 4]
    assert {case.slots for case in groups[0]} == {64}


def test_broken_curves_and_refusals(suite, monkeypatch):
    stopped = StoppedCurves([make_result("ntm", 1024, status="oom", reason="full"), make_result("sam", 64, status="error", reason="bug")])
    assert "stopped at N = 1k (oom: full)" in str(stopped.reason(make_result("ntm", 4096).case))
    assert stopped.reason(make_result("ntm", 512).case) is None
    assert stopped.reason(make_result("ntm", 4096, mode="infer").case) is None
    assert stopped.reason(make_result("sam", 4096).case) is None
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refusal = precheck(make_result("sam", 64, device="cuda").case, suite.budget, stopped)
    assert refusal is not None
    assert refusal.status == "unavailable"


def test_compiled_without_a_compiler_is_unavailable(suite, monkeypatch):
    monkeypatch.setattr("mann_bench.run.runner.compiler", lambda: None)
    refusal = precheck(make_result("ntm", variant="compiled").case, suite.budget, StoppedCurves([]))
    assert refusal is not None
    assert refusal.status == "unavailable"
    assert "g++" in refusal.reason


def test_resume_runs_what_is_missing(suite, tmp_path):
    good = suite.model_copy(update={"cases": [case for case in suite.cases if case.model == "bad_models:Good"]})
    description: RunDescription = {"case_ids": [case.case_id for case in good.cases], "suite": "bad"}
    folder = RunFolder(tmp_path / "run", description, resume=False)
    first = next(iter(run_suite(good, folder)))
    folder.close()
    folder = RunFolder(tmp_path / "run", description, resume=True)
    rest = list(run_suite(good, folder))
    folder.close()
    assert [first.case_id, *(result.case_id for result in rest)] == description["case_ids"]
