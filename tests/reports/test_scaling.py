"""Planted powers, breaks and orders are found, and 95% intervals cover them in 95% of the cases."""

import numpy as np
import pandas as pd
import pytest

from mann_bench.reports.analysis.scaling import fit_exponent, fit_growth

SLOTS = pd.Series([64, 256, 1024, 4096, 16384, 65536])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_planted_power(power):
    fit = fit_exponent(SLOTS, pd.Series(3.0 * SLOTS.to_numpy() ** power), 0.1)
    assert fit is not None
    assert fit.value == pytest.approx(power, abs=1e-9)
    assert [(s.first_slots, s.last_slots) for s in fit.segments] == [(64, 65536)]
    assert fit.ci_low < power < fit.ci_high


def test_planted_break():
    slots = pd.Series(2.0 ** np.arange(6, 21))
    values = np.maximum(1.0, slots / 4096) * np.exp(0.03 * np.random.default_rng(0).standard_normal(len(slots)))
    fit = fit_exponent(slots, pd.Series(values), 0.05)
    assert fit is not None
    assert len(fit.segments) == 2
    flat, steep = fit.segments
    assert flat.ci_low < 0 < flat.ci_high
    assert steep.ci_low < 1 < steep.ci_high
    assert 2048 <= flat.last_slots == steep.first_slots <= 8192
    assert fit.value == steep.value


def test_overhead_at_small_sizes_does_not_hide_the_power():
    fit = fit_exponent(SLOTS, 500 + SLOTS, 0.05)
    assert fit is not None
    assert fit.value > 0.85


def test_interval_covers_the_truth_95_times_in_100():
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        fit = fit_exponent(SLOTS, SLOTS**0.7 * np.exp(0.1 * random.standard_normal(len(SLOTS))), 0.1)
        assert fit is not None
        hits += fit.ci_low <= 0.7 <= fit.ci_high
    assert 180 <= hits <= 199


@pytest.mark.parametrize(
    ("values", "order"),
    [
        (0 * SLOTS + 5.0, "O(1)"),
        (2.0 + np.log2(SLOTS), "O(log N)"),
        (500.0 + 3 * SLOTS, "O(N)"),
        (5000.0 + 300 * SLOTS + SLOTS**2, "O(N^2)"),
    ],
)
def test_planted_order(values, order):
    growth = fit_growth(SLOTS, values, 0.01)
    assert growth is not None
    assert growth.verdict == order
    assert growth.at(1000) == pytest.approx(np.interp(1000, SLOTS, values), rel=0.2)


def test_a_cache_that_makes_large_memories_dearer_is_no_new_order():
    growth = fit_growth(SLOTS, pd.Series(SLOTS.to_numpy() * np.where(SLOTS > 2000, 1.6, 1.0)), 0.1)
    assert growth is not None
    assert growth.order == "O(N)"


def test_a_memory_that_shows_only_above_a_constant_is_no_square():
    growth = fit_growth(SLOTS, pd.Series(np.maximum(10_000.0, SLOTS.to_numpy())), 0.1)
    assert growth is not None
    assert growth.order == "O(N)"


def test_growth_that_cannot_be_decided_is_reported():
    growth = fit_growth(SLOTS, pd.Series(10 + 0.2 * np.log2(SLOTS.to_numpy())), 0.1)
    assert growth is not None
    assert growth.verdict == "O(1); O(log N) fits as well"


def test_noise_is_no_growth():
    random = np.random.default_rng(1)
    orders = [fit_growth(SLOTS, pd.Series(np.exp(0.1 * random.standard_normal(len(SLOTS)))), 0.1) for _ in range(100)]
    assert sum(growth is not None and growth.order == "O(1)" for growth in orders) >= 97


def test_largest_within_a_limit():
    growth = fit_growth(SLOTS, 100.0 + 2 * SLOTS, 0.05)
    assert growth is not None
    best, low, high = growth.largest_within(1e6) or (0.0, 0.0, 0.0)
    assert best == pytest.approx((1e6 - 100) / 2, rel=1e-6)
    assert low < best < high < 1.2 * best
    assert growth.largest_within(50) is None
    flat = fit_growth(SLOTS, 0 * SLOTS + 5.0, 0.05)
    assert flat is not None
    assert flat.largest_within(6) == (np.inf, np.inf, np.inf)


def test_values_that_are_all_zero_are_constant():
    growth = fit_growth(SLOTS, 0.0 * SLOTS, 0.1)
    assert growth is not None
    assert (growth.order, growth.coefficients) == ("O(1)", (0.0,))
    assert fit_exponent(SLOTS, 0.0 * SLOTS, 0.1) is None


def test_too_few_or_useless_points():
    for fit in (fit_exponent, fit_growth):
        assert fit(SLOTS[:2], SLOTS[:2], 0.1) is None
        assert fit(SLOTS[:2], 0.0 * SLOTS[:2], 0.1) is None
        assert fit(pd.Series([64, 64, 64]), pd.Series([1.0, 2, 3]), 0.1) is None
        assert fit(SLOTS, SLOTS.where(SLOTS > 1000), 0.1) is not None
