"""Sparse against dense in the same setting and at the same N: speed-up, memory ratio, and the N from which the sparse one is ahead."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize

from mann_bench.reports.quantity import TIME
from mann_bench.reports.scaling import DRAWS, Floats, Scaling, value
from mann_bench.sizes import format_slots, round_slots

FARTHEST = 64  # times the largest N measured: further, a fit says nothing
DENSE_TWINS = {"sam": ("ntm", "dam"), "sdnc": ("dnc",)}  # Rae et al. compare SAM with NTM and DAM, SDNC with DNC


@dataclass(frozen=True)
class Ratio:
    """How many times faster and smaller the sparse curve is; the interval holds both medians' intervals at their worst."""

    setting: str
    sparse: str
    dense: str
    slots: int
    speedup: float
    speedup_low: float
    speedup_high: float
    tape_ratio: float
    sparse_case: str
    dense_case: str
    dense_model: str


@dataclass(frozen=True)
class Crossover:
    """The N from which the sparse curve is faster: 0 at every size measured, infinite at none; with its 95% interval.

    `expected` is where the fitted curves would cross beyond the sizes measured, with its interval, if they do.
    """

    setting: str
    sparse: str
    dense: str
    slots: float
    low: float
    high: float
    first_slots: int
    last_slots: int
    expected: tuple[float, float, float] | None

    @property
    def words(self) -> str:
        """For people."""
        if self.slots == 0:
            return f"faster at every N measured, {format_slots(self.first_slots)} to {format_slots(self.last_slots)}"
        if np.isinf(self.slots):
            beyond = f"; the fitted curves cross near {_interval(*self.expected)}, not measured" if self.expected else ""
            return f"not faster at any N measured, {format_slots(self.first_slots)} to {format_slots(self.last_slots)}{beyond}"
        low = self.low if self.low else float(self.first_slots)
        high = self.high if np.isfinite(self.high) else float(self.last_slots)
        return f"from N = {_interval(self.slots, low, high)} on"


def ratios(frame: pd.DataFrame) -> list[Ratio]:
    """Every pair of a sparse curve and a dense twin, at every N that both have."""
    found = []
    for setting, sparse, dense in _pairs(frame):
        for n in sorted(set(sparse.index) & set(dense.index)):
            a, b = sparse.loc[n], dense.loc[n]
            found.append(
                Ratio(
                    setting,
                    str(a["curve"]),
                    str(b["curve"]),
                    int(n),
                    float(b["step_ms_median"] / a["step_ms_median"]),
                    float(b["step_ms_ci_low"] / a["step_ms_ci_high"]),
                    float(b["step_ms_ci_high"] / a["step_ms_ci_low"]),
                    float(b["bytes_per_step"] / a["bytes_per_step"]) if a["bytes_per_step"] > 0 else float("nan"),
                    str(a["case_id"]),
                    str(b["case_id"]),
                    str(b["model"]),
                )
            )
    return found


def crossovers(frame: pd.DataFrame, times: dict[tuple[str, str], Scaling]) -> list[Crossover]:
    """Where each sparse curve overtakes its dense twins in time per step; `times` are the fits of time."""
    found = []
    for setting, sparse, dense in _pairs(frame):
        shared = sorted(set(sparse.index) & set(dense.index))
        if not shared:
            continue
        names = (setting, str(sparse["curve"].iloc[0]), str(dense["curve"].iloc[0]))
        a, b = sparse.loc[shared], dense.loc[shared]
        gain = np.log(b["step_ms_median"].to_numpy() / a["step_ms_median"].to_numpy())
        errors = np.hypot(TIME.measured_errors(a).to_numpy(), TIME.measured_errors(b).to_numpy())
        noise = np.random.default_rng(0).standard_normal((DRAWS, len(shared)))
        drawn = [_overtakes(shared, gain + errors * one) for one in noise]
        low, high = np.quantile(drawn, (0.025, 0.975), method="nearest")
        at = _overtakes(shared, gain)
        expected = _expected(times.get(names[:2]), times.get((setting, names[2])), shared[-1]) if np.isinf(at) else None
        found.append(Crossover(*names, at, float(low), float(high), int(shared[0]), int(shared[-1]), expected))
    return found


def _overtakes(slots: list[int], gain: Floats) -> float:
    """The N from which the gain stays positive, between sizes on a straight line against log N."""
    behind = np.flatnonzero(gain <= 0)
    if len(behind) == 0:
        return 0.0
    last = int(behind[-1])
    if last == len(slots) - 1:
        return float("inf")
    part = -gain[last] / (gain[last + 1] - gain[last])
    return float(slots[last] * (slots[last + 1] / slots[last]) ** part)


def _expected(sparse: Scaling | None, dense: Scaling | None, after: int) -> tuple[float, float, float] | None:
    """Where two fitted curves cross beyond `after`, at most `FARTHEST` times as far, with its interval."""
    if sparse is None or dense is None:
        return None
    drawn = [
        _crosses(sparse.growth.order, one, dense.growth.order, other, after)
        for one, other in zip(sparse.growth.redrawn, dense.growth.redrawn, strict=True)
    ]
    best = _crosses(
        sparse.growth.order, np.array(sparse.growth.coefficients), dense.growth.order, np.array(dense.growth.coefficients), after
    )
    if best is None:
        return None
    low, high = np.quantile([one or np.inf for one in drawn], (0.025, 0.975), method="nearest")
    return best, float(min(low, best)), float(max(high, best))


def _crosses(sparse_order: str, sparse: Floats, dense_order: str, dense: Floats, after: int) -> float | None:
    def gain(log_n: float) -> float:
        return value(dense_order, dense, 2.0**log_n) - value(sparse_order, sparse, 2.0**log_n)

    first, last = np.log2(after), np.log2(after * FARTHEST)
    return float(2.0 ** optimize.brentq(gain, first, last)) if gain(first) < 0 < gain(last) else None


def _interval(at: float, low: float, high: float) -> str:
    return f"{round_slots(at)} [{round_slots(low)}, {round_slots(high)}]"


def _pairs(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    measured = frame[(frame["status"] == "ok") & frame["step_ms_median"].notna()]
    pairs = []
    for setting, part in measured.groupby("setting", sort=False):
        curves = {
            str(name): curve.drop_duplicates("slots").set_index("slots", drop=False) for name, curve in part.groupby("curve", sort=False)
        }
        for sparse in curves.values():
            for dense in curves.values():
                if dense["model"].iloc[0] in DENSE_TWINS.get(str(sparse["model"].iloc[0]), ()):
                    pairs.append((str(setting), sparse, dense))
    return pairs
