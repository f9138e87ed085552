"""Advice is given exactly when it applies."""

import pytest

from mann_bench.data.result import Sensors
from mann_bench.measure.advice import advise
from mann_bench.measure.device import PassTime
from mann_bench.measure.timing import Round, summarize
from tests.support.results import make_result


def advice(rounds, warmup=(10.0, 10.0, 10.0), sensors=(), issue=None, **ledger):
    passes = [[PassTime(ms, ms if issue else None, ms * issue if issue else None) for ms in values] for values in rounds]
    timing = summarize([Round(passes=values, sensors=list(sensors[i : i + 2])) for i, values in enumerate(passes)], list(warmup), 1, 0.05)
    result = make_result()
    memory = result.memory.model_copy(update={"ledger": ledger})
    return advise(result.model_copy(update={"time": timing, "memory": memory}))


def test_a_good_measurement_gets_no_advice():
    assert advice([[10.0, 10.1, 9.9] * 5] * 3, unattributed=10) == []
    assert advise(make_result(status="oom")) == []


def test_rounds_that_differ():
    said = advice([[10.0] * 9, [11.2] * 9])
    assert said == ["the median moved 11% between rounds: the machine was busy; rerun with --rounds 8"]
    assert "--rounds 12" in advice([[10.0] * 9, [11.2] * 9] * 3)[0]


def test_scatter_and_few_samples():
    assert "known to ±50% only, from 10 passes" in advice([[5.0, 15.0] * 5])[0]
    assert "only 3 passes fitted" in advice([[10.0] * 3])[0]


def test_warm_up_that_never_settled():
    assert "8 warm-up passes did not settle" in advice([[10.0] * 10], warmup=[10.0, 20.0] * 4)[0]


def test_short_passes():
    assert "a pass takes 20 us" in advice([[0.02] * 10])[0]


def test_gpu_slowed_and_clock_moved():
    hot = Sensors(sm_clock_mhz=1400, slowdowns=["power cap"])
    cool = Sensors(sm_clock_mhz=1980)
    said = advice([[10.0] * 10, [10.0] * 10], sensors=[cool, cool, hot])
    assert "held back while it was timed (power cap)" in said[0]
    assert "between 1400 and 1980 MHz" in said[1]


def test_host_bound():
    assert "97% of a pass the host was still issuing" in advice([[10.0] * 10], issue=0.97)[0]
    assert advice([[10.0] * 10], issue=0.2) == []


@pytest.mark.parametrize(("unattributed", "spoken"), [(500, True), (10, False)])
def test_memory_of_unknown_cause(unattributed, spoken):
    said = advice([[10.0] * 10], unattributed=unattributed)  # made-up results peak at 2000 bytes
    assert bool(said) == spoken
    if spoken:
        assert "500 B of the peak (25%) belong to no known cause" in said[0]
