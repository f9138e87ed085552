"""A curve against its twin in the same setting and at the same N: speed-up, memory ratio, and the N from which it is ahead.

The twins of a sparse model are the dense ones it stands for; the twin of a native kernel is the plain torch one.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize

from mann_bench.data.units import format_slots, round_slots
from mann_bench.reports.analysis.scaling import DRAWS, Floats, Scaling, value
from mann_bench.reports.data.quantity import TIME

FARTHEST = 64  # times the largest N measured: further, a fit says nothing
DENSE_TWINS = {"sam": ("ntm", "dam"), "sdnc": ("dnc",)}  # Rae et al. compare SAM with NTM and DAM, SDNC with DNC


@dataclass(frozen=True)
class Ratio:
    """How many times faster and smaller a curve is than its twin; the interval holds both medians' intervals at their worst."""

    setting: str
    subject: str
    twin: str
    slots: int
    speedup: float
    speedup_low: float
    speedup_high: float
    tape_ratio: float
    subject_case: str
    twin_case: str
    twin_model: str


@dataclass(frozen=True)
class Crossover:
    """The N from which a curve is faster than its twin: 0 at every size measured, infinite at none; with its 95% interval.

    `expected` is where the fitted curves would cross beyond the sizes measured, with its interval, if they do.
    """

    setting: str
    subject: str
    twin: str
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
    """Every pair of a curve and a twin, at every N that both have."""
    found = []
    for setting, subject, twin in _pairs(frame):
        for n in sorted(set(subject.index) & set(twin.index)):
            a, b = subject.loc[n], twin.loc[n]
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
    """Where each curve overtakes its twins in time per step; `times` are the fits of time."""
    found = []
    for setting, subject, twin in _pairs(frame):
        shared = sorted(set(subject.index) & set(twin.index))
        if not shared:
            continue
        names = (setting, str(subject["curve"].iloc[0]), str(twin["curve"].iloc[0]))
        a, b = subject.loc[shared], twin.loc[shared]
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


def _expected(subject: Scaling | None, twin: Scaling | None, after: int) -> tuple[float, float, float] | None:
    """Where two fitted curves cross beyond `after`, at most `FARTHEST` times as far, with its interval."""
    if subject is None or twin is None:
        return None
    drawn = [
        _crosses(subject.growth.order, one, twin.growth.order, other, after)
        for one, other in zip(subject.growth.redrawn, twin.growth.redrawn, strict=True)
    ]
    best = _crosses(
        subject.growth.order, np.array(subject.growth.coefficients), twin.growth.order, np.array(twin.growth.coefficients), after
    )
    if best is None:
        return None
    low, high = np.quantile([one or np.inf for one in drawn], (0.025, 0.975), method="nearest")
    return best, float(min(low, best)), float(max(high, best))


def _crosses(sparse_order: str, subject: Floats, dense_order: str, twin: Floats, after: int) -> float | None:
    def gain(log_n: float) -> float:
        return value(dense_order, twin, 2.0**log_n) - value(sparse_order, subject, 2.0**log_n)

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
        for subject in curves.values():
            for twin in curves.values():
                if _are_twins(subject.iloc[0], twin.iloc[0]):
                    pairs.append((str(setting), subject, twin))
    return pairs


def _are_twins(subject: pd.Series, twin: pd.Series) -> bool:
    """Timed in one run, and a sparse model with its dense one, or a native kernel with the plain one of the same thing."""
    if subject["run"] != twin["run"]:
        return False
    if twin["model"] in DENSE_TWINS.get(str(subject["model"]), ()):
        return True
    same = all(subject[name] == twin[name] for name in ("model", "variant", "index"))
    return same and subject["ran_kernels"] != "torch" and twin["ran_kernels"] == "torch"
