"""How a curve grows with N: a + b g(N) with a, b >= 0 over the whole sweep, for g of O(1), O(log N), O(sqrt N), O(N), O(N^2).

Constant cost and growth are fitted together, so the fit also says at which N a limit is reached. This one fit is what the labels of
curves, sentences, tables, limits and claims are made of.

A point is weighted by its standard error: the measured one, combined with `Quantity.floor`, the differences between sizes that are not
growth (code paths, cache sets, pages). The stated errors count as `PRIOR` additional observations, so that a perfect fit to three points
does not give an interval of no width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mann_bench.reports.data.quantity import Quantity

Floats = NDArray[np.float64]

MIN_SIZES = 3
PRIOR = 4.0  # observations
DRAWS = 400  # of the parametric bootstrap
MAX_SLOTS = 2.0**80  # a limit that is reached at a larger N only is never reached
BIC_MARGIN = 4.0  # the simplest order whose criterion is within this of the best is chosen
MIN_SHARE = 0.2  # of the value at the largest N: an order whose leading term has less is rejected
POWERS = {"O(sqrt N)": 0.5, "O(N)": 1, "O(N^2)": 2}
SLOPE_MARGIN = 0.75  # N^p is rejected unless some local log-log slope is at least p - this
ORDERS: dict[str, tuple[Callable[[Floats], Floats], ...]] = {
    "O(1)": (np.ones_like,),
    "O(log N)": (np.ones_like, np.log2),
    "O(sqrt N)": (np.ones_like, np.sqrt),
    "O(N)": (np.ones_like, lambda n: n),
    "O(N^2)": (np.ones_like, lambda n: n, np.square),
}


@dataclass(frozen=True)
class Growth:
    """y = sum of `coefficients` times the terms of `order`; the points cannot tell the orders `equally_good` from it.

    `slots`, `values`, `errors`: the points; an error is the standard error of log y.
    """

    order: str
    coefficients: tuple[float, ...]
    equally_good: tuple[str, ...]
    slots: tuple[float, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the order may be another one: `O(log N) fits as well`, `3 sizes only`."""
        others, sizes = self.equally_good, len(set(self.slots))
        also = (f"{' and '.join(others)} fit{'s' if len(others) == 1 else ''} as well",) if others else ()
        return (*also, f"{sizes} sizes only") if sizes == MIN_SIZES else also

    @property
    def verdict(self) -> str:
        """The order and its doubts: `O(N)`, or `O(1); O(log N) fits as well`."""
        return "; ".join([self.order, *self.doubts])

    @property
    def is_zero(self) -> bool:
        """Whether every value is 0."""
        return not any(self.values)

    def at(self, slots: float) -> float:
        """Return the fitted value at N = `slots`."""
        return float(values(self.order, np.array([self.coefficients]), np.array([slots]))[0])

    @cached_property
    def resampled(self) -> Floats:
        """Coefficients [DRAWS, terms] of a parametric bootstrap: fits to points drawn anew within their errors."""
        random = np.random.default_rng(0)
        n, y, errors = (np.array(part) for part in (self.slots, self.values, self.errors))
        return _fit_many(self.order, n, y * np.exp(errors * random.standard_normal((DRAWS, len(n)))), errors)[0]

    def largest_within(self, limit: float) -> tuple[float, float, float] | None:
        """Return the N at which the fitted curve reaches a limit, with its 95% interval; infinite if never, None if it starts above."""
        best = float(_solve(self.order, np.array([self.coefficients]), limit)[0])
        if np.isnan(best):
            return None
        resampled = _solve(self.order, self.resampled, limit)
        low, high = np.quantile(np.where(np.isnan(resampled), 1.0, resampled), (0.025, 0.975), method="nearest")
        return best, float(min(low, best)), float(max(high, best))


def growths(frame: pd.DataFrame, quantity: Quantity) -> dict[tuple[str, str], Growth]:
    """Fit each (setting, curve) that has enough sizes."""
    fits = {}
    for (setting, curve), part in frame[frame["status"] == "ok"].groupby(["setting", "curve"], sort=False):
        errors = quantity.errors(part)
        growth = fit_growth(part["slots"], part[quantity.column], errors)
        if growth is not None:
            fits[str(setting), str(curve)] = growth
    return fits


def fit_growth(slots: pd.Series, values: pd.Series, errors: pd.Series | float) -> Growth | None:
    """Fit the simplest order that explains the points about as well as the best does; None with fewer than three sizes.

    Values that are all 0 are O(1). Among others, those that are 0 are left out: they have no logarithm.

    Args:
        errors: standard errors of log y.
    """
    if (values == 0).all() and slots.nunique() >= MIN_SIZES:
        sizes = tuple(sorted(map(float, slots)))
        return Growth("O(1)", (0.0,), (), sizes, (0.0,) * len(sizes), (0.0,) * len(sizes))
    n, y, sigma = _usable(slots, values, errors)
    if len(np.unique(n)) < MIN_SIZES:
        return None
    fits = {order: _fit(order, n, y, sigma) for order in ORDERS}
    scores = {order: _criterion(chi2, len(n), len(ORDERS[order])) for order, (_, chi2) in fits.items()}
    steepest = _steepest_slope(n, y)
    plausible = [
        order
        for order, (coefficients, _) in fits.items()
        if _share(order, coefficients, float(n[-1])) >= MIN_SHARE and POWERS.get(order, 0) <= steepest + SLOPE_MARGIN
    ] or ["O(1)"]  # a curve that falls steeply does not grow
    best = min(scores[order] for order in plausible)
    chosen = [order for order in plausible if scores[order] <= best + BIC_MARGIN]
    coefficients = tuple(float(f"{part:.12g}") for part in fits[chosen[0]][0])  # further digits are rounding errors, other ones elsewhere
    return Growth(chosen[0], coefficients, tuple(chosen[1:]), *(tuple(map(float, part)) for part in (n, y, sigma)))


def _usable(slots: pd.Series, values: pd.Series, errors: pd.Series | float) -> tuple[Floats, Floats, Floats]:
    """N, y and sigma of the points with a positive, finite y, by N."""
    n, y = slots.to_numpy(float), values.to_numpy(float)
    sigma = np.broadcast_to(np.asarray(errors, dtype=float), n.shape)
    usable = (y > 0) & np.isfinite(y)
    order = np.argsort(n[usable], kind="stable")
    return n[usable][order], y[usable][order], sigma[usable][order]


def _terms(order: str, n: Floats) -> Floats:
    return np.stack([term(n) for term in ORDERS[order]], axis=1)


def _fit(order: str, n: Floats, y: Floats, sigma: Floats) -> tuple[Floats, float]:
    """Fit by non-negative least squares of relative residuals: (coefficients, chi squared)."""
    coefficients, chi2 = _fit_many(order, n, y[None], sigma)
    return coefficients[0], float(chi2[0])


def _fit_many(order: str, n: Floats, y: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """As `_fit`, for many y [draws, points] at once: coefficients [draws, terms], chi squared [draws].

    The best of the plain least squares on each set of terms of which none comes out negative: with three terms at most, there are seven.
    """
    weighted = _terms(order, n) / (y * sigma)[:, :, None]
    scale = np.linalg.norm(weighted, axis=1)  # columns of N^2 and of 1 differ by many orders of magnitude
    scaled, target = weighted / scale[:, None, :], 1 / sigma
    squares, right = np.swapaxes(scaled, 1, 2) @ scaled, target @ scaled
    best, least = np.zeros(right.shape), np.full(len(y), np.inf)
    terms = range(right.shape[1])
    for kept in (list(some) for size in range(1, len(terms) + 1) for some in combinations(terms, size)):
        tried = np.zeros(right.shape)
        tried[:, kept] = np.linalg.solve(squares[:, kept][:, :, kept], right[:, kept, None])[:, :, 0]
        chi2 = np.square((scaled @ tried[:, :, None])[:, :, 0] - target).sum(axis=1)
        better = (tried >= 0).all(axis=1) & (chi2 < least)
        best, least = np.where(better[:, None], tried, best), np.where(better, chi2, least)
    return best / scale, least


def _share(order: str, coefficients: Floats, slots: float) -> float:
    """The fraction of the value at N = `slots` that is the leading term."""
    parts = _terms(order, np.array([slots]))[0] * coefficients
    return float(parts[-1] / parts.sum())


def _steepest_slope(n: Floats, y: Floats) -> float:
    """The largest local log-log slope, between neighbouring sizes."""
    sizes = np.unique(n)
    levels = np.array([np.median(np.log(y[n == size])) for size in sizes])
    return float((np.diff(levels) / np.diff(np.log(sizes))).max())


def _criterion(chi2: float, points: int, parameters: int) -> float:
    """Bayesian information criterion; the scale of the errors is integrated out, with a prior worth `PRIOR` observations."""
    return float((PRIOR + points) * np.log1p(chi2 / PRIOR) + parameters * np.log(points))


def values(order: str, coefficients: Floats, slots: Floats) -> Floats:
    """Return the values [curves] of curves with these coefficients [curves, terms], each at its own N [curves]."""
    return np.asarray((_terms(order, slots) * coefficients).sum(axis=1))


def _solve(order: str, coefficients: Floats, limit: float) -> Floats:
    """The N [curves] in [1, MAX_SLOTS] at which curves reach a limit; NaN if one starts above, infinite if it ends below.

    Args:
        coefficients: [curves, terms of the order].
    """
    constant, first, second = np.pad(coefficients, ((0, 0), (0, 3 - coefficients.shape[1]))).T
    left = limit - constant
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        if order == "O(log N)":
            slots = np.exp2(left / first)
        elif order == "O(sqrt N)":
            slots = np.square(np.maximum(left, 0) / first)
        else:  # second N^2 + first N = left, solved so that neither may be 0 alone
            slots = 2 * left / (first + np.sqrt(first**2 + 4 * second * np.maximum(left, 0)))
    starts = (_terms(order, np.ones(1)) @ coefficients.T)[0]
    return np.where(starts > limit, np.nan, np.where(np.isnan(slots) | (slots > MAX_SLOTS), np.inf, slots))
