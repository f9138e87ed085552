"""The largest N in a budget, and the Pareto front."""

import pytest

from mann_bench.reports.analysis.max_slots import max_slots
from mann_bench.reports.analysis.pareto import pareto_fronts
from mann_bench.reports.analysis.scaling import growths
from mann_bench.reports.data.quantity import QUANTITIES
from tests.support.results import make_result


def test_largest_within_budgets(frame_of):
    sizes = (64, 1024, 16384)
    frame = frame_of(
        *(make_result("ntm", n, ms=n / 1000, per_step=1000 * n) for n in sizes), *(make_result("sam", n, ms=2, per_step=100) for n in sizes)
    )
    limits = {(limit.curve, limit.budget): limit for limit in max_slots(frame, {q.key: growths(frame, q) for q in QUANTITIES})}
    ntm = limits["ntm", "10 ms a step"]
    assert ntm.slots == pytest.approx(10_000, rel=0.01)
    assert not ntm.text.endswith("*")
    memory = limits["ntm", "16 GiB"]
    assert memory.slots == pytest.approx(16 * 2**30 / 10_000, rel=0.01)
    assert memory.text.endswith("*")
    assert limits["sam", "141 GiB"].text == "more than 16k"


def test_over_the_budget_from_the_start(frame_of):
    frame = frame_of(*(make_result("ntm", n, ms=100 + n) for n in (64, 1024, 16384)))
    assert max_slots(frame, {q.key: growths(frame, q) for q in QUANTITIES})[0].text == "none"


def test_front_holds_the_cases_that_no_other_beats(frame_of):
    frame = frame_of(
        make_result("lstm", ms=0.01, per_step=1),
        make_result("ntm", ms=1, per_step=1000),
        make_result("sam", ms=2, per_step=10),
        make_result("dam", ms=3, per_step=1000),
        make_result("sam", ms=1.5, per_step=10, index="lsh").model_copy(update={"recall": 0.9}),
    )
    (front,) = pareto_fronts(frame)
    assert list(front.rows["curve"]) == ["ntm", "sam lsh", "sam exact"]
    assert front.beaten == {"dam": "ntm"}


def test_an_index_of_unknown_recall_is_not_taken_for_exact(frame_of):
    (front,) = pareto_fronts(frame_of(make_result("sam", ms=2), make_result("sam", ms=2, index="lsh")))
    assert front.beaten == {"sam lsh": "sam exact"}


def test_only_what_does_the_same_work_competes(frame_of):
    frame = frame_of(make_result("op:sparse_read", ms=1), make_result("op:sparse_write", ms=2), make_result("ntm", ms=3))
    assert pareto_fronts(frame) == []


def test_times_whose_intervals_overlap_beat_nobody(frame_of):
    (front,) = pareto_fronts(frame_of(make_result("ntm", ms=1, per_step=10), make_result("dam", ms=1.01, per_step=10)))
    assert front.beaten == {}
    (front,) = pareto_fronts(frame_of(make_result("ntm", ms=1, per_step=10), make_result("dam", ms=1.1, per_step=10)))
    assert front.beaten == {"dam": "ntm"}
