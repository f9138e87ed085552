"""Rounds of a comparison with fake workers: how drift and failures affect results."""

import pytest

from mann_bench.data.result import Floor, Measured
from mann_bench.data.suite import Budget
from mann_bench.measure.advice import advise
from mann_bench.measure.device import PassTime
from mann_bench.run.replies import Failure, Killed, Started
from mann_bench.run.runner import fit_batches, processors_of, run_side_by_side
from tests.support.fakes import FakeClock
from tests.support.results import make_result

CLOCK = FakeClock()
CALLS: list[str] = []


class DriftingWorker:
    """Every pass takes 100 ms on a machine that slows by 2% a round; `dam` dies in its second round."""

    pass_ms = 100.0
    output = "full, said dam"

    def __init__(self, threads, code=None, cpus=()):
        self.used_s, self.rounds, self.model = 0.0, 0, ""

    def wait_until_started(self):
        return Started()

    def ask(self, command, timeout_s, kind):
        if command["do"] == "prepare":
            self.model = command["case"]["model"]
            prepared = make_result(self.model)
            return kind(backend=prepared.backend, memory=prepared.memory, warmup_ms=[100.0], first_ms=500.0)
        CALLS.append(self.model)
        CLOCK.now += 1
        self.rounds += 1
        if self.model == "dam" and self.rounds == 2:
            return Failure(status="oom", reason="full")
        assert command["flush"] is False
        return kind(passes=[PassTime(self.pass_ms * (1 + 0.02 * CLOCK.now))] * 10)

    def quit(self):
        pass

    def kill(self):
        pass


@pytest.fixture(autouse=True)
def fake_workers(monkeypatch):
    CLOCK.now = 0
    CALLS.clear()
    monkeypatch.setattr("mann_bench.run.runner.WorkerProcess", DriftingWorker)
    monkeypatch.setattr("mann_bench.run.runner.build_kernels", lambda dtypes: None)


def run(*models, rounds):
    cases = [make_result(model).case for model in models]
    return list(run_side_by_side(cases, Budget(rounds=rounds), lambda case, text: None))


def test_steady_drift_cancels_between_cases_timed_in_turn():
    first, second = run("ntm", "sam", rounds=4)
    assert CALLS == ["ntm", "sam", "sam", "ntm"] * 2
    assert first.time.pass_ms.median == pytest.approx(second.time.pass_ms.median, rel=0.001)
    assert first.time.pass_ms.ci_high - first.time.pass_ms.ci_low > 10  # but it is recorded
    assert first.time.round_counts == [10] * 4
    assert first.time.first_ms == 500


def test_cases_timed_in_turn_have_the_id_of_their_comparison():
    dam, sam = run("dam", "sam", rounds=3)
    assert dam.status == "oom"
    assert dam.comparison == sam.comparison
    [other] = run("sam", rounds=1)
    assert None is not other.comparison != sam.comparison


def test_numbers_that_make_no_sense_are_an_error_of_the_case(monkeypatch):
    monkeypatch.setattr(DriftingWorker, "pass_ms", 0.0)  # a clock that stands still
    [result] = run("sam", rounds=2)
    assert result.status == "error"
    assert result.reason == "its numbers make no sense: expected passes that take some time, got 0 ms"


def test_one_after_the_other_the_same_drift_is_taken_for_a_difference():
    [first], [second] = run("ntm", rounds=4), run("sam", rounds=4)
    assert second.time.pass_ms.median > 1.05 * first.time.pass_ms.median


def test_a_case_that_dies_in_a_later_round_leaves_the_others_be():
    dam, sam = run("dam", "sam", rounds=3)
    assert (dam.status, dam.reason, dam.time, dam.output) == ("oom", "full", None, "full, said dam")
    assert sam.status == "ok"
    assert CALLS.count("sam") == 3
    assert CALLS.count("dam") == 2


def test_many_rounds_end_with_the_time_but_never_before_the_fifth():
    def rounds(timing_seconds):
        budget = Budget(rounds=30, timing_seconds=timing_seconds)
        [result] = run_side_by_side([make_result("ntm").case], budget, lambda case, text: None)
        assert isinstance(result, Measured)
        return len(result.time.round_counts)

    assert 5 < rounds(9.5) < 10
    assert rounds(1.0) == 5


class KilledOnceWorker(DriftingWorker):
    """The first worker of `dam` is killed by somebody; or each, if `always`."""

    always, killed = False, 0

    def ask(self, command, timeout_s, kind):
        if command["do"] == "round" and self.model == "dam" and (self.always or not type(self).killed):
            type(self).killed += 1
            return Killed(status="error", reason="killed by SIGTERM")
        if self.model == "dam":
            self.model = "ntm"  # it does not run out of memory here
        return super().ask(command, timeout_s, kind)


@pytest.mark.parametrize("always", [False, True])
def test_a_case_whose_worker_is_killed_is_tried_once_more_after_the_others(monkeypatch, always):
    monkeypatch.setattr("mann_bench.run.runner.WorkerProcess", KilledOnceWorker)
    monkeypatch.setattr(KilledOnceWorker, "killed", 0)
    monkeypatch.setattr(KilledOnceWorker, "always", always)
    results = run("dam", "sam", rounds=2)
    assert [(result.case.model, result.status) for result in results] == [("sam", "ok"), ("dam", "error" if always else "ok")]
    assert KilledOnceWorker.killed == (2 if always else 1)


def test_workers_that_were_started_are_ended_when_one_cannot_be(monkeypatch):
    ended = []

    class Refused(DriftingWorker):
        def __init__(self, *arguments):
            if len(CALLS) == 2:
                raise OSError(24, "Too many open files")
            CALLS.append("started")
            super().__init__(*arguments)

        def kill(self):
            ended.append(self)

    monkeypatch.setattr("mann_bench.run.runner.WorkerProcess", Refused)
    with pytest.raises(OSError, match="Too many"):
        run("ntm", "dam", "sam", rounds=1)
    assert len(ended) == 2


def test_batches_hold_no_more_workers_than_files_may_be_open(monkeypatch):
    monkeypatch.setattr("mann_bench.run.runner.most_workers", lambda threads: 3)
    cases = [make_result("lstm", slots).case for slots in range(1, 9)]
    assert [len(batch) for batch in fit_batches(cases, Budget())] == [3, 3, 2]


def test_workers_of_a_gpu_start_on_other_processors(monkeypatch):
    monkeypatch.setattr("mann_bench.machine.cpus.siblings", lambda cpu: f"{cpu // 2}")
    cases = {device: [make_result("lstm", threads=2, device=device).case for _ in range(3)] for device in ("cpu", "cuda")}
    assert processors_of(cases["cpu"], range(9)) == [[1, 2]] * 3
    assert processors_of(cases["cuda"], range(9)) == [[1, 2], [4, 6], [3, 8]]
    assert processors_of(cases["cuda"], [1, 2, 4]) == [[1, 2], [1, 4], [2, 4]]
    assert processors_of(cases["cuda"], [1]) == [[1]] * 3
    assert processors_of([cases["cpu"][0], cases["cuda"][0]], range(9)) == [[1, 2]] * 2
    assert processors_of(cases["cuda"], []) == [[]] * 3


def test_a_result_warns_of_shared_processors(monkeypatch):
    class Shared:
        cpus, shared = [7], [7]

        def __init__(self, threads, at_most):
            pass

        def release(self):
            CALLS.append("released")

    monkeypatch.setattr("mann_bench.run.runner.ReservedCpus", Shared)
    [result] = run("ntm", rounds=1)
    assert "another mann-bench used processor 7 at the same time" in advise(result)[0]
    assert CALLS[-1] == "released"


class CopyingWorker(DriftingWorker):
    """A worker of a dense model. The first round of copies has no room; `lstm` is of an older commit, which knows of no floor."""

    cache_bytes = 2**25

    def ask(self, command, timeout_s, kind):
        if command["do"] == "copy":
            CALLS.append(f"copy {command['size_bytes']}")
            return kind(rates=[1e10, 3e10, 2e10] if self.rounds > 1 else [])
        reply = super().ask(command, timeout_s, kind)
        if command["do"] == "prepare" and self.model != "lstm":
            return reply.model_copy(update={"floor": Floor(step_bytes=1e8, matrix_bytes=2**27, cache_bytes=self.cache_bytes)})
        return reply


def test_memory_is_copied_in_turn_with_passes_where_the_floor_holds(monkeypatch):
    monkeypatch.setattr("mann_bench.run.runner.WorkerProcess", CopyingWorker)
    ntm, lstm = run("ntm", "lstm", rounds=2)
    assert CALLS == ["ntm", "copy 134217728", "lstm", "lstm", "ntm", "copy 134217728"]
    assert (ntm.floor.copy_bytes_per_s, lstm.floor) == (2e10, None)
    assert ntm.floor_share == pytest.approx(1e8 / 2e10 / (ntm.time.step_ms.median / 1e3))
    monkeypatch.setattr(CopyingWorker, "cache_bytes", 2**27)
    CALLS.clear()
    (ntm,) = run("ntm", rounds=2)
    assert CALLS == ["ntm", "ntm"]
    assert ntm.floor.fits_cache
    assert (ntm.floor.copy_bytes_per_s, ntm.floor_share) == (None, None)
