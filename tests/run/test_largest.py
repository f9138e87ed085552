"""The search for the largest memory, on probes whose limit is known."""

import pytest

from mann_bench.data.case import Case
from mann_bench.data.suite import Budget
from mann_bench.run.largest import Largest, find_largest, predicted_largest
from tests.support.results import make_result


def search(limit, status="oom", model="ntm", step_ms=None, ms=lambda slots: 1.0, memory="1G", options=None):
    probed = []

    def probe(case):
        probed.append(case.slots)
        fits = case.slots <= limit
        return make_result(model, case.slots, status="ok" if fits else status, reason=None if fits else "full", ms=ms(case.slots))

    case = Case(suite="largest", model=model, slots=64, steps=10, options=options or {})
    *results, answer = find_largest(case, Budget(memory=memory), probe, step_ms)
    assert isinstance(answer, Largest)
    assert [result.case.slots for result in results] == probed  # type: ignore[union-attr]
    return answer, probed


@pytest.mark.parametrize("limit", [8, 1000, 123_457, 5 * 2**20])
def test_the_limit_is_found_to_a_tenth(limit):
    answer, probed = search(limit)
    assert limit / 1.1 <= answer.slots <= limit
    assert probed[0] == answer.predicted
    assert len(probed) <= 32
    assert "oom: full" in answer.why


@pytest.mark.parametrize(("limit", "slots", "why"), [(5000, 2048, "its factors leave no other N than 2k"), (2000, 0, "N = 2k: oom: full")])
def test_sizes_of_factors_leave_one_size_to_probe(limit, slots, why):
    answer, probed = search(limit, model="sdm", options={"factors": "32x64"})
    assert (answer.slots, answer.predicted, answer.why) == (slots, 2048, why)
    assert probed == [2048]


@pytest.mark.parametrize(("factors", "limit"), [(2, 16), (2, 1000), (2, 123_457), (3, 27), (3, 1000), (3, 123_457)])
def test_product_keys_are_probed_at_powers_of_their_factors(factors, limit):
    answer, probed = search(limit, model="sdm", options={"factors": factors})
    assert all(round(slots ** (1 / factors)) ** factors == slots for slots in probed)
    assert limit / 1.1 <= answer.slots <= limit or answer.slots == int(limit ** (1 / factors) + 1e-9) ** factors
    assert len(probed) <= 32


def test_a_good_prediction_needs_few_probes():
    predicted = predicted_largest(Case(suite="s", model="ntm", slots=64, steps=10), Budget(memory="1G"))
    assert predicted is not None
    answer, probed = search(round(1.05 * predicted))
    assert len(probed) <= 6
    assert answer.slots >= predicted


def test_prediction_follows_both_budgets():
    case = Case(suite="s", model="ntm", slots=64, steps=10)
    by_memory = [predicted_largest(case, Budget(memory=size, case_seconds=10**6)) for size in (2**28, 2**30)]
    assert 3.5 < by_memory[1] / by_memory[0] < 4.5  # type: ignore[operator]
    hurried = predicted_largest(case, Budget(memory=2**40, case_seconds=10))
    patient = predicted_largest(case, Budget(memory=2**40, case_seconds=100))
    assert hurried is not None
    assert patient is not None
    assert hurried < patient
    assert predicted_largest(case, Budget(memory=1000)) == 0
    assert predicted_largest(Case(suite="s", model="my:own", slots=64), Budget()) is None


def test_time_of_a_step_is_a_budget_too():
    answer, _ = search(10**9, step_ms=50, ms=lambda slots: slots / 1000)
    assert 50_000 / 1.1 <= answer.slots <= 50_000
    assert "ms, the budget is 50 ms" in answer.why


def test_nothing_fits_or_the_model_is_broken():
    answer, probed = search(0)
    assert answer.slots == 0
    assert probed[-1] == 8
    answer, probed = search(0, status="error")
    assert len(probed) == 1
    assert "error: full" in answer.why


def test_a_model_without_limit_ends():
    answer, probed = search(2**40)
    assert answer.slots >= 2**31 or len(probed) == 32


@pytest.mark.parametrize("status", ["oom", "timeout"])
def test_a_model_that_uses_no_slots_is_not_tried_at_smaller_sizes(status):
    answer, probed = search(0, status=status, model="lstm")
    assert len(probed) == 1
    assert answer.slots == 0
    assert f"{status}: full" in answer.why
