"""Timing logic on a fake clock: no test here waits."""

import json
import random

import pytest

from mann_bench.data.result import Sensors
from mann_bench.measure.device import PassTime
from mann_bench.measure.samples import interval_over_rounds, median_interval, split_rounds
from mann_bench.measure.timing import Round, sample, steady_enough, summarize, warm_up
from mann_bench.run.replies import decode_reply, reply_fields
from tests.support.fakes import FakeDevice


def nothing():
    pass


def round_of(*wall_ms):
    return Round(passes=[PassTime(ms) for ms in wall_ms])


def test_warm_up_ends_when_two_passes_agree():
    device = FakeDevice([9.0, 2.0, 1.0, 1.05, 1.0])
    cleared = []
    assert warm_up(device, nothing, lambda: cleared.append(1), 60) == pytest.approx([9000, 2000, 1000, 1050])
    assert len(cleared) == 4


def test_warm_up_is_bounded():
    assert len(warm_up(FakeDevice([1]), nothing, nothing, 1e-9)) <= 2
    assert len(warm_up(FakeDevice([1, 2] * 6), nothing, nothing, 1e9)) == 8
    assert len(warm_up(FakeDevice([100]), nothing, nothing, 2)) == 1


def test_sample_keeps_order_and_stops_at_the_budget():
    device = FakeDevice([0.3, 0.1, 0.2, 0.4, 0.5])
    cleared = []
    assert sample(device, nothing, lambda: cleared.append(1), 0.95, 0.01).wall_ms == pytest.approx([300, 100, 200, 400])
    assert len(cleared) == 4
    assert device.flushed == 0


def test_cache_is_flushed_before_each_pass_if_asked_and_that_is_not_timed():
    device = FakeDevice([0.1])
    device.flush_cache = lambda: setattr(device.clock, "now", device.clock.now + 5)  # type: ignore[method-assign]
    assert sample(device, nothing, nothing, 20, 0.01, flush=True).wall_ms == pytest.approx([100] * 4)


def test_sample_stops_when_the_median_is_known():
    assert len(sample(FakeDevice([0.1]), nothing, nothing, 1e9, 0.05).passes) == 10


def test_at_least_one_sample_whatever_the_budget():
    assert sample(FakeDevice([50]), nothing, nothing, 0.001, 0.05).wall_ms == [50000]


def test_interval_covers_the_median_95_times_in_100():
    random.seed(1)
    hits = 0
    for _ in range(1000):
        _, low, high = median_interval([random.expovariate(1) for _ in range(25)])
        hits += low <= 0.6931 <= high
    assert 925 <= hits <= 985


def test_interval_of_few_samples_is_their_range():
    assert median_interval([3.0]) == (3, 3, 3)
    assert median_interval([1.0, 5.0, 2.0]) == (2, 1, 5)
    assert not steady_enough([1.0] * 5, 0.05)
    assert steady_enough([1.0] * 10, 0.05)


def test_rounds_that_moved_widen_the_interval():
    steady = [10.0, 10.1] * 20
    assert interval_over_rounds([steady, steady])[1:] == median_interval(steady * 2)[1:]
    _, low, high = interval_over_rounds([steady, [value * 1.2 for value in steady]])
    assert (low, high) == pytest.approx((10.0, 12.12), abs=0.1)


def test_summary_is_per_pass_and_per_step():
    timing = summarize([round_of(10.0, 12.0), round_of(11.0)], [30.0], 10, 0.05, first_ms=900)
    assert timing.pass_ms.samples == [10, 12, 11]
    assert (timing.pass_ms.median, timing.step_ms.median, timing.pass_ms.min, timing.pass_ms.count) == (11, 1.1, 10, 3)
    assert timing.stop_reason == "time budget"
    assert timing.first_ms == 900
    assert timing.round_counts == [2, 1]
    assert split_rounds(timing.pass_ms.samples, timing.round_counts) == [[10, 12], [11]]
    assert split_rounds([1, 2], []) == [[1, 2]]
    assert timing.cache == "warm"
    assert timing.device_ms is timing.issue_share is None
    assert "within 5%" in summarize([round_of(*[1.0] * 20)], [], 1, 0.05).stop_reason


def test_device_time_host_share_and_sensors():
    hot, cold = Sensors(temperature_c=80), Sensors(temperature_c=40)
    rounds = [
        Round(passes=[PassTime(10.0, 9.0, 2.0), PassTime(12.0, 11.0, 3.0)], sensors=[cold, hot]),
        Round(passes=[PassTime(10.0, 9.0, 1.0)], sensors=[hot, hot]),
    ]
    through_a_pipe = [decode_reply(json.dumps(reply_fields(finished)).encode(), Round) for finished in rounds]
    assert through_a_pipe == rounds
    timing = summarize(rounds, [], 1, 0.05)
    assert timing.device_ms is not None
    assert timing.device_ms.samples == [9, 11, 9]
    assert timing.issue_share == pytest.approx(0.2)
    assert [reading.temperature_c for reading in timing.sensors] == [40, 80, 80]
    device = FakeDevice([1.0], [cold, hot])
    assert sample(device, nothing, nothing, 0.5, 0.1).sensors == [cold, hot]
