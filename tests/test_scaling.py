"""Planted powers are found."""

import numpy as np
import pandas as pd
import pytest

from mann_bench.reports.scaling import Exponent, fit_exponent

SLOTS = pd.Series([64, 256, 1024, 4096, 16384, 65536])


@pytest.mark.parametrize(
    ("power", "verdict"), [(0.0, "O(1)"), (1.0, "O(N)"), (2.0, "O(N^2)"), (0.5, "grows slower than O(N)"), (1.5, "about N^1.5")]
)
def test_planted_power(power, verdict):
    fit = fit_exponent(SLOTS, 3.0 * SLOTS**power)
    assert fit is not None
    assert fit.value == pytest.approx(power, abs=1e-9)
    assert fit.verdict == verdict
    assert (fit.first_slots, fit.last_slots, fit.points) == (4096, 65536, 3)


def test_overhead_at_small_sizes_does_not_hide_the_power():
    fit = fit_exponent(SLOTS, 500 + SLOTS)
    assert fit is not None
    assert fit.value > 0.9


def test_interval_covers_the_truth_95_times_in_100():
    random = np.random.default_rng(0)
    slots = pd.Series(2.0 ** np.arange(6, 22))
    hits = 0
    for _ in range(400):
        fit = fit_exponent(slots, slots**0.7 * np.exp(0.1 * random.standard_normal(len(slots))))
        assert fit is not None
        hits += fit.ci_low <= 0.7 <= fit.ci_high
    assert 365 <= hits <= 395


def test_too_few_or_useless_points():
    assert fit_exponent(SLOTS[:2], SLOTS[:2]) is None
    assert fit_exponent(SLOTS, 0.0 * SLOTS) is None
    assert fit_exponent(pd.Series([64, 64, 64]), pd.Series([1.0, 2, 3])) is None
    assert fit_exponent(SLOTS, SLOTS.where(SLOTS > 1000)) is not None
    assert "unclear" in Exponent(0.5, -1, 2, 3, 1, 9).verdict
