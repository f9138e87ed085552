"""How a curve grows with N, said twice: as powers of N over stretches of the sweep, and as one of O(1), O(log N), O(N), O(N^2).

Powers (`fit_exponent`): straight lines on log-log axes, joined at measured sizes where the data ask for it: below a break the constant
costs of a step rule, or a memory fits the cache. Orders (`fit_growth`): a + b g(N) with a, b >= 0 over the whole sweep, constant costs
and growth at once, which also says where a limit is reached.

Both weigh a point by its error: its measured one and `floor`, what may differ from size to size for reasons that are not growth (code
paths, cache sets, pages). That errors are as stated counts as `PRIOR` further observations, so that three points that happen to lie on
a line are not believed to the last digit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from mann_bench.reports.data.quantity import Quantity

Floats = NDArray[np.float64]

FEWEST_SIZES = 3
PRIOR = 4.0
MOST_BREAKS = 2
DRAWS = 400
MUCH = 4.0  # of the criterion: a simpler order within this of the best is believed
SHARE = 0.2  # of the value at the largest N: a term that is less is no order yet
POWERS = {"O(N)": 1, "O(N^2)": 2}
LAG = 0.75  # an order is believed only where the curve somewhere climbs by its power less this: a bend is no square
ORDERS: dict[str, tuple[Callable[[Floats], Floats], ...]] = {
    "O(1)": (np.ones_like,),
    "O(log N)": (np.ones_like, np.log2),
    "O(N)": (np.ones_like, lambda n: n),
    "O(N^2)": (np.ones_like, lambda n: n, np.square),
}


@dataclass(frozen=True)
class Segment:
    """y ~ N^value from `first_slots` to `last_slots`, with the 95% interval of the exponent."""

    value: float
    ci_low: float
    ci_high: float
    first_slots: int
    last_slots: int


@dataclass(frozen=True)
class Exponent:
    """The powers of a curve, from small N to large; `value` and its interval are the last one's, which is what N is for."""

    segments: tuple[Segment, ...]
    points: int

    @property
    def value(self) -> float:
        """Exponent at the largest sizes."""
        return self.segments[-1].value

    @property
    def ci_low(self) -> float:
        """Lower end of its 95% interval."""
        return self.segments[-1].ci_low

    @property
    def ci_high(self) -> float:
        """Upper end of its 95% interval."""
        return self.segments[-1].ci_high


@dataclass(frozen=True)
class Growth:
    """y = sum of `coefficients` times the terms of `order`; `also` are orders that the points cannot tell from it."""

    order: str
    coefficients: tuple[float, ...]
    also: tuple[str, ...]
    slots: tuple[float, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """`O(N)`, or `O(1); O(log N) fits as well`."""
        return self.order + (f"; {' and '.join(self.also)} fit{'s' if len(self.also) == 1 else ''} as well" if self.also else "")

    def at(self, slots: float) -> float:
        """The fitted value at a size."""
        return value(self.order, np.array(self.coefficients), slots)

    @cached_property
    def redrawn(self) -> Floats:
        """Coefficients [DRAWS, terms] fitted again to points redrawn within their errors."""
        random = np.random.default_rng(0)
        n, y, errors = (np.array(part) for part in (self.slots, self.values, self.errors))
        return np.stack([_fit(self.order, n, y * np.exp(errors * random.standard_normal(len(n))), errors)[0] for _ in range(DRAWS)])

    def largest_within(self, limit: float) -> tuple[float, float, float] | None:
        """N at which the fitted curve reaches a limit, with its 95% interval; infinite where it never does, None where it starts above."""
        best = _reaches(self.order, np.array(self.coefficients), limit)
        if best is None:
            return None
        reached = [_reaches(self.order, coefficients, limit) or 1.0 for coefficients in self.redrawn]
        low, high = np.quantile(reached, (0.025, 0.975), method="nearest")
        return best, float(min(low, best)), float(max(high, best))


@dataclass(frozen=True)
class Scaling:
    """Both accounts of one curve."""

    exponent: Exponent
    growth: Growth


def scalings(frame: pd.DataFrame, quantity: Quantity) -> dict[tuple[str, str], Scaling]:
    """Of each (setting, curve) with enough sizes."""
    found = {}
    for (setting, curve), part in frame[frame["status"] == "ok"].groupby(["setting", "curve"], sort=False):
        errors = quantity.errors(part)
        exponent, growth = (fit(part["slots"], part[quantity.column], errors) for fit in (fit_exponent, fit_growth))
        if isinstance(exponent, Exponent) and isinstance(growth, Growth):
            found[str(setting), str(curve)] = Scaling(exponent, growth)
    return found


def fit_exponent(slots: pd.Series, values: pd.Series, errors: pd.Series | float) -> Exponent | None:
    """Powers of N; None with fewer than three sizes of positive value. `errors`: standard errors of log y."""
    n, y, sigma = _usable(slots, values, errors)
    if len(np.unique(n)) < FEWEST_SIZES:
        return None
    x, z = np.log(n), np.log(y)
    sizes = np.unique(n)
    inner = sizes[2:-2]  # a stretch holds three sizes, its ends included
    tries: list[tuple[float, ...]] = [()]
    for count in range(1, MOST_BREAKS + 1):
        tries += [b for b in combinations(map(float, inner), count) if all(_between(sizes, *pair) >= 3 for pair in pairwise(b))]
    fits = {breaks: _segmented(x, z, sigma, np.log(breaks)) for breaks in tries}
    best = min(tries, key=lambda breaks: _criterion(fits[breaks][2], len(x), 2 + 2 * len(breaks)))
    slopes, covariance, chi2 = fits[best]
    freedom = PRIOR + len(x) - 2 - len(best)
    reach = float(stats.t.ppf(0.975, freedom)) * np.sqrt((PRIOR + chi2) / freedom)
    edges = [sizes[0], *best, sizes[-1]]
    segments = []
    for number in range(len(best) + 1):
        chosen = np.array([0.0] + [1.0] * (number + 1) + [0.0] * (len(best) - number))  # a slope is the sum of the changes up to it
        slope, deviation = float(chosen @ slopes), float(np.sqrt(chosen @ covariance @ chosen))
        segments.append(Segment(slope, slope - reach * deviation, slope + reach * deviation, int(edges[number]), int(edges[number + 1])))
    return Exponent(tuple(segments), len(x))


def fit_growth(slots: pd.Series, values: pd.Series, errors: pd.Series | float) -> Growth | None:
    """The simplest order that explains the points about as well as the best does; None with fewer than three sizes."""
    n, y, sigma = _usable(slots, values, errors)
    if len(np.unique(n)) < FEWEST_SIZES:
        return None
    fits = {order: _fit(order, n, y, sigma) for order in ORDERS}
    scores = {order: _criterion(chi2, len(n), len(ORDERS[order])) for order, (_, chi2) in fits.items()}
    steep = _steepest(n, y)
    telling = [
        order
        for order, (coefficients, _) in fits.items()
        if _share(order, coefficients, float(n[-1])) >= SHARE and POWERS.get(order, 0) <= steep + LAG
    ]
    best = min(scores[order] for order in telling)
    believed = [order for order in telling if scores[order] <= best + MUCH]
    coefficients = tuple(map(float, fits[believed[0]][0]))
    return Growth(believed[0], coefficients, tuple(believed[1:]), *(tuple(map(float, part)) for part in (n, y, sigma)))


def _usable(slots: pd.Series, values: pd.Series, errors: pd.Series | float) -> tuple[Floats, Floats, Floats]:
    n, y = slots.to_numpy(float), values.to_numpy(float)
    sigma = np.broadcast_to(np.asarray(errors, dtype=float), n.shape)
    usable = (y > 0) & np.isfinite(y)
    order = np.argsort(n[usable], kind="stable")
    return n[usable][order], y[usable][order], sigma[usable][order]


def _between(sizes: Floats, low: float, high: float) -> int:
    return int(((sizes >= low) & (sizes <= high)).sum())


def _segmented(x: Floats, z: Floats, sigma: Floats, breaks: Floats) -> tuple[Floats, Floats, float]:
    """Least squares of joined lines: (intercept and changes of slope, their covariance for the stated errors, chi squared)."""
    columns = np.stack([np.ones_like(x), x - x[0], *(np.maximum(0, x - b) for b in breaks)], axis=1)
    weighted = columns / sigma[:, None]
    covariance = np.linalg.inv(weighted.T @ weighted)
    solution = covariance @ weighted.T @ (z / sigma)
    return np.asarray(solution), np.asarray(covariance), float(np.square((z - columns @ solution) / sigma).sum())


def _terms(order: str, n: Floats) -> Floats:
    return np.stack([term(n) for term in ORDERS[order]], axis=1)


def _fit(order: str, n: Floats, y: Floats, sigma: Floats) -> tuple[Floats, float]:
    """Non-negative least squares of relative differences: (coefficients, chi squared)."""
    weighted = _terms(order, n) / (y * sigma)[:, None]
    scale = np.linalg.norm(weighted, axis=0)  # N^2 and 1 in one matrix
    solution, norm = optimize.nnls(weighted / scale, 1 / sigma)
    return solution / scale, float(norm) ** 2


def _share(order: str, coefficients: Floats, slots: float) -> float:
    """What the fastest growing term is of the whole at a size."""
    parts = _terms(order, np.array([slots]))[0] * coefficients
    return float(parts[-1] / parts.sum())


def _steepest(n: Floats, y: Floats) -> float:
    """The largest power of N between neighbouring sizes."""
    sizes = np.unique(n)
    levels = np.array([np.median(np.log(y[n == size])) for size in sizes])
    return float((np.diff(levels) / np.diff(np.log(sizes))).max())


def _criterion(chi2: float, points: int, parameters: int) -> float:
    """Bayesian information criterion, with the size of the errors integrated out (they are as stated, for `PRIOR` observations)."""
    return float((PRIOR + points) * np.log1p(chi2 / PRIOR) + parameters * np.log(points))


def value(order: str, coefficients: Floats, slots: float) -> float:
    """The curve with these coefficients at a size."""
    return float((_terms(order, np.array([slots])) @ coefficients).item())


def _reaches(order: str, coefficients: Floats, limit: float) -> float | None:
    def over(log_n: float) -> float:
        return value(order, coefficients, 2.0**log_n) - limit

    if over(0) > 0:
        return None
    return float(2.0 ** optimize.brentq(over, 0, 80)) if over(80) > 0 else float("inf")
