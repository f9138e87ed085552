"""Planted orders are found, and what points cannot decide is said."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from mann_bench.reports.analysis.scaling import ORDERS, _fit_many, _terms, fit_growth

SLOTS = pd.Series([64, 256, 1024, 4096, 16384, 65536])


@pytest.mark.parametrize(
    ("values", "order"),
    [
        (0 * SLOTS + 5.0, "O(1)"),
        (2.0 + np.log2(SLOTS), "O(log N)"),
        (2.0 + 0.5 * np.sqrt(SLOTS), "O(sqrt N)"),
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


def test_too_few_or_useless_points():
    assert fit_growth(SLOTS[:2], SLOTS[:2], 0.1) is None
    assert fit_growth(SLOTS[:2], 0.0 * SLOTS[:2], 0.1) is None
    assert fit_growth(pd.Series([64, 64, 64]), pd.Series([1.0, 2, 3]), 0.1) is None
    assert fit_growth(SLOTS, SLOTS.where(SLOTS > 1000), 0.1) is not None


def test_an_order_from_three_points_says_so():
    growth = fit_growth(SLOTS[:3], 500.0 + 3 * SLOTS[:3], 0.01)
    assert growth is not None
    assert growth.verdict.endswith("; 3 sizes only")


@pytest.mark.parametrize("order", ORDERS)
def test_many_fits_at_once_are_those_of_a_solver_one_by_one(order):
    random = np.random.default_rng(2)
    n, sigma = np.array(SLOTS, dtype=np.float64), np.full(len(SLOTS), 0.1)
    last = _terms(order, n)[:, -1]
    planted = 30 + 3 * last / last[-1]
    y = planted * np.exp(0.5 * random.standard_normal((200, len(n))))
    weighted = [_terms(order, n) / (values * sigma)[:, None] for values in y]
    scale = [np.linalg.norm(each, axis=0) for each in weighted]
    solved = [optimize.nnls(each / by, 1 / sigma) for each, by in zip(weighted, scale, strict=True)]
    one_by_one = np.stack([solution / by for (solution, _), by in zip(solved, scale, strict=True)])
    coefficients, chi2 = _fit_many(order, n, y, sigma)
    np.testing.assert_allclose(coefficients, one_by_one, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(chi2, [norm**2 for _, norm in solved], rtol=1e-9)
    assert order in ("O(1)", "O(N^2)") or (one_by_one == 0).any()


def test_a_curve_that_falls_steeply_does_not_grow():
    fit = fit_growth(pd.Series([64, 256, 1024]), pd.Series([8.0, 2.0, 0.5]), 0.01)
    assert fit is not None
    assert fit.order == "O(1)"
