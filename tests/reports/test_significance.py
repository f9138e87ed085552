"""Planted changes are found, chance is not taken for a change, and correlated samples do not count as independent."""

import numpy as np
import pytest

from mann_bench.reports.analysis import significance
from mann_bench.reports.analysis.significance import Blocks, block_length, change, corrected


def independent(random, count=40, factor=1.0):
    return list(factor * np.exp(0.05 * random.standard_normal(count)))


def drifting(random, count=240, factor=1.0):
    """Autoregressive noise with coefficient 0.8."""
    noise = np.zeros(count)
    for i in range(1, count):
        noise[i] = 0.8 * noise[i - 1] + 0.03 * random.standard_normal()
    return list(factor * np.exp(noise))


def test_planted_slowdown_is_found_with_its_size():
    random = np.random.default_rng(0)
    slower = change([[independent(random)]], [[independent(random, factor=1.2)]])
    assert slower.low < 1.2 < slower.high
    assert slower.low > 1.1
    assert slower.high < 1.3
    assert slower.p_value < 1e-6


def test_direction_and_identity():
    samples = [3.0, 2.0, 4.0, 3.5, 2.5, 3.1, 2.9]
    same = change([[samples]], [[samples]])
    assert (same.ratio, same.p_value) == (1.0, 1.0)
    assert same.low <= 1 <= same.high
    assert change([[samples]], [[[2 * value for value in samples]]]).ratio == pytest.approx(2)


@pytest.mark.parametrize("make", [independent, drifting])
def test_interval_covers_no_change_as_often_as_it_says(make, monkeypatch):
    monkeypatch.setattr(significance, "DRAWS", 400)  # enough for ends of 95% intervals that are counted, not shown
    random = np.random.default_rng(1)
    changes = [change([[make(random)]], [[make(random)]]) for _ in range(120)]
    covered = sum(each.low <= 1 <= each.high for each in changes)
    alarms = sum(each.p_value < 0.05 for each in changes)
    assert covered >= 105  # 95% of 120 are 114; blocks of drifting samples are not quite independent
    assert alarms <= 14


def test_processes_that_differ_widen_the_interval():
    random = np.random.default_rng(2)
    steady = [[independent(random, factor=f)] for f in (1, 1, 1)]
    lucky = [[independent(random, factor=f)] for f in (0.9, 1, 1.1)]
    narrow, wide = (change(steady, after) for after in (steady, lucky))
    assert wide.high / wide.low > 1.1 * (narrow.high / narrow.low)


def in_turn(random, factor=1.0, turns=20):
    """Two processes timed in turn, five samples each, on a machine that becomes 1.5 times slower in the middle."""
    factors = np.where(np.arange(turns) < turns // 2, 1.0, 1.5) * np.exp(0.1 * random.standard_normal(turns))
    return ([list(side * slowness * np.exp(0.03 * random.standard_normal(5))) for slowness in factors] for side in (1.0, factor))


def test_a_slowdown_common_to_both_sides_is_not_a_change():
    random = np.random.default_rng(4)
    changes = [change([before], [after]) for before, after in (in_turn(random) for _ in range(120))]
    assert sum(each.low <= 1 <= each.high for each in changes) >= 106
    assert sum(each.p_value < 0.05 for each in changes) <= 14
    assert max(each.high / each.low for each in changes) < 1.1
    before, after = in_turn(random, 1.1)
    found = change([before], [after])
    assert 1.05 < found.low < 1.1 < found.high < 1.15
    assert found.p_value < 1e-4
    without_rounds = change([[list(np.concatenate(before))]], [[list(np.concatenate(after))]])
    assert without_rounds.high / without_rounds.low > 1.3 > found.high / found.low
    assert change([before], [before]).p_value == 1


def test_block_length():
    random = np.random.default_rng(3)
    assert block_length(independent(random, 200)) <= 2
    assert 8 <= block_length(drifting(random, 400)) <= 50
    assert block_length([1.0] * 30) == 1
    assert block_length([1.0, 2.0]) == 1
    assert len(Blocks(np.array(sorted(independent(random, 60)))).medians) == 6


def test_many_cases_raise_the_p_value():
    assert corrected([0.04]) == [pytest.approx(0.04)]
    assert min(corrected([0.04] + [0.9] * 50)) > 0.05
    assert corrected([]) == []
