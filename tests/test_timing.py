"""Timing logic on a clock of its own: no test here waits."""

import pytest

from mann_bench.timing import median_interval, sample, steady_enough, summarize, warm_up


class FakeClock:
    """Advances only when a pass is run."""

    def __init__(self, passes_s):
        self.now, self.passes = 0.0, list(passes_s)
        self.ran = 0

    def __call__(self):
        return self.now

    def one_pass(self):
        self.now += self.passes[min(self.ran, len(self.passes) - 1)]
        self.ran += 1


def test_warm_up_ends_when_two_passes_agree():
    clock = FakeClock([9.0, 2.0, 1.0, 1.05, 1.0])
    assert warm_up(clock.one_pass, 60, clock) == pytest.approx([9000, 2000, 1000, 1050])


def test_warm_up_is_bounded():
    assert len(warm_up(FakeClock([1]).one_pass, 1e-9, FakeClock([1]))) <= 8
    never = FakeClock([1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2])
    assert len(warm_up(never.one_pass, 1e9, never)) == 8
    slow = FakeClock([100])
    assert len(warm_up(slow.one_pass, 2, slow)) == 1


def test_sample_keeps_order_and_stops_at_the_budget():
    clock = FakeClock([0.3, 0.1, 0.2, 0.4, 0.5])
    cleared = []
    assert sample(clock.one_pass, lambda: cleared.append(1), 0.95, 0.01, clock) == pytest.approx([300, 100, 200, 400])
    assert len(cleared) == 4


def test_sample_stops_when_the_median_is_known():
    clock = FakeClock([0.1])
    assert len(sample(clock.one_pass, lambda: None, 1e9, 0.05, clock)) == 10


def test_at_least_one_sample_whatever_the_budget():
    clock = FakeClock([50])
    assert sample(clock.one_pass, lambda: None, 0.001, 0.05, clock) == [50000]


def test_interval_covers_the_median_95_times_in_100():
    import random

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


def test_summary_is_per_pass_and_per_step():
    timing = summarize([[10.0, 12.0], [11.0]], [30.0], 10, 0.05)
    assert timing.pass_ms.samples == [10, 12, 11]
    assert (timing.pass_ms.median, timing.step_ms.median, timing.pass_ms.min, timing.pass_ms.count) == (11, 1.1, 10, 3)
    assert timing.stop_reason == "time budget"
    assert "within 5%" in summarize([[1.0] * 20], [], 1, 0.05).stop_reason
