"""Rounds in which the cases of a comparison are timed in turn, with fake workers: what drift and failures do to results."""

import pytest

from mann_bench.data.result import Measured
from mann_bench.data.suite import Budget
from mann_bench.measure.device import PassTime
from mann_bench.run.replies import Failure, Started
from mann_bench.run.runner import run_side_by_side
from tests.support.fakes import FakeClock
from tests.support.results import make_result

CLOCK = FakeClock()
CALLS: list[str] = []


class DriftingWorker:
    """Every pass takes 100 ms on a machine that slows by 2% a round; `dam` dies in its second round."""

    pass_ms = 100.0

    def __init__(self, threads, checkout=None):
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


def run(*models, rounds):
    cases = [make_result(model).case for model in models]
    return list(run_side_by_side(cases, Budget(rounds=rounds), lambda text: None))


def test_steady_drift_cancels_between_cases_that_take_turns():
    first, second = run("ntm", "sam", rounds=4)
    assert CALLS == ["ntm", "sam", "sam", "ntm"] * 2
    assert first.time.pass_ms.median == pytest.approx(second.time.pass_ms.median, rel=0.001)
    assert first.time.pass_ms.ci_high - first.time.pass_ms.ci_low > 10  # and is not hidden
    assert first.time.round_counts == [10] * 4
    assert first.time.first_ms == 500


def test_cases_that_take_turns_have_the_id_of_their_comparison():
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
    assert (dam.status, dam.reason, dam.time) == ("oom", "full", None)
    assert sam.status == "ok"
    assert CALLS.count("sam") == 3
    assert CALLS.count("dam") == 2


def test_many_rounds_end_with_the_time_but_never_before_the_fifth():
    def rounds(timing_seconds):
        budget = Budget(rounds=30, timing_seconds=timing_seconds)
        [result] = run_side_by_side([make_result("ntm").case], budget, lambda text: None)
        assert isinstance(result, Measured)
        return len(result.time.round_counts)

    assert 5 < rounds(9.5) < 10
    assert rounds(1.0) == 5
