"""How a curve grows with N: the exponent b of `y ~ N^b`, with its interval, by one rule for every curve."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

FEWEST_POINTS = 3
# 97.5% quantiles of Student's t for 1, 2, ... degrees of freedom; beyond the table the normal one is within 4%
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
_NORMAL = 2.042


@dataclass(frozen=True)
class Exponent:
    """Least squares of log y on log N over `points` sizes from `first_slots` to `last_slots`; the interval is the 95% one of the slope."""

    value: float
    ci_low: float
    ci_high: float
    points: int
    first_slots: int
    last_slots: int

    @property
    def verdict(self) -> str:
        """The simplest growth that is within 0.05 of the exponent's interval: O(1), O(N), O(N^2); else what lies between."""
        if self.ci_high - self.ci_low > 1:
            return "unclear: too few or too scattered points"
        for growth, order in (("O(1)", 0.0), ("O(N)", 1.0), ("O(N^2)", 2.0)):
            if self.ci_low - 0.05 <= order <= self.ci_high + 0.05 and abs(self.value - order) < 0.25:
                return growth
        if 0 < self.value < 1:
            return "grows slower than O(N)"
        return f"about N^{self.value:.1f}"


def fit_exponent(slots: pd.Series, values: pd.Series) -> Exponent | None:
    """Fit over the upper half of the sweep in log N, where overheads that do not grow weigh least; at least the largest three sizes.

    None with fewer than three positive values.
    """
    usable = (values > 0) & np.isfinite(values)
    n, y = slots[usable].to_numpy(float), values[usable].to_numpy(float)
    order = np.argsort(n)
    n, y = n[order], y[order]
    if len(np.unique(n)) < FEWEST_POINTS:
        return None
    upper = n >= np.sqrt(n[0] * n[-1])
    if len(np.unique(n[upper])) < FEWEST_POINTS:
        upper = n >= np.unique(n)[-FEWEST_POINTS]
    x, z = np.log(n[upper]), np.log(y[upper])
    centred = x - x.mean()
    slope = float(centred @ z / (centred @ centred))
    residuals = z - z.mean() - slope * centred
    freedom = len(x) - 2
    deviation = float(np.sqrt(residuals @ residuals / freedom / (centred @ centred)))
    reach = (_T[freedom - 1] if freedom <= len(_T) else _NORMAL) * deviation
    return Exponent(slope, slope - reach, slope + reach, len(x), int(n[upper][0]), int(n[-1]))


def exponents(frame: pd.DataFrame, value: str) -> dict[tuple[str, str], Exponent]:
    """One exponent for each (setting, curve) that has enough points."""
    measured = frame[frame["status"] == "ok"]
    fits = {key: fit_exponent(part["slots"], part[value]) for key, part in measured.groupby(["setting", "curve"], sort=False)}
    return {(str(key[0]), str(key[1])): fit for key, fit in fits.items() if fit is not None}
