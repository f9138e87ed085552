"""A curve against its twin in the same setting and at the same N: speed-up, memory ratio, and the N from which it is faster.

The twins of a sparse model are the dense models it approximates. The twin of a native kernel is the plain torch code.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize

from mann_bench.data.registry import BUILT_INS
from mann_bench.data.units import format_slots, round_slots
from mann_bench.reports.analysis.scaling import DRAWS, Floats, Growth, value
from mann_bench.reports.data.frame import without_run
from mann_bench.reports.data.quantity import TIME

MAX_EXTRAPOLATION = 64  # how far beyond the largest N measured a fit is trusted, as a factor
DENSE_TWINS = {"sam": ("ntm", "dam"), "sdnc": ("dnc",)}  # Rae et al. compare SAM with NTM and DAM, SDNC with DNC


@dataclass(frozen=True)
class Ratio:
    """How many times faster a curve is than its twin, and how many times less memory it takes, at one N.

    The interval of the speed-up is the widest that the two medians' 95% intervals allow. `tape_bytes`: what one more step keeps for
    backward, of the curve and of the twin. `in_turn`: whether both were timed in turn, or at other moments of the run; None if the
    results do not say. `warned`: whether one of the two cases has a warning.
    """

    setting: str
    subject: str
    twin: str
    slots: int
    speedup: float
    speedup_low: float
    speedup_high: float
    tape_bytes: tuple[float, float]
    subject_case: str
    twin_case: str
    twin_model: str
    in_turn: bool | None
    warned: bool

    @property
    def verdict(self) -> str:
        """Whether the whole interval is on one side of 1: `faster`, `slower` or `not decided`."""
        return "faster" if self.speedup_low > 1 else "slower" if self.speedup_high < 1 else "not decided"

    @property
    def tape_ratio(self) -> float | None:
        """The twin's bytes over the curve's; None where one of them keeps nothing."""
        own_bytes, twin_bytes = self.tape_bytes
        return twin_bytes / own_bytes if min(self.tape_bytes) > 0 else None


@dataclass(frozen=True)
class Crossover:
    """The N from which a curve is faster than its twin, with its 95% interval.

    `slots` is 0 if it is faster at every N measured, infinite if at none. `expected` is the N (and its interval) at which the fitted
    curves cross beyond the sizes measured, None if they do not.
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
    def text(self) -> str:
        """The crossover in words: `from N = 128 [124, 131] on`."""
        if self.slots == 0:
            return f"faster at every N measured, {format_slots(self.first_slots)} to {format_slots(self.last_slots)}"
        if np.isinf(self.slots):
            beyond = f"; the fitted curves cross near {_interval(*self.expected)}, not measured" if self.expected else ""
            return f"not faster at any N measured, {format_slots(self.first_slots)} to {format_slots(self.last_slots)}{beyond}"
        low = self.low if self.low else float(self.first_slots)
        high = self.high if np.isfinite(self.high) else float(self.last_slots)
        return f"from N = {_interval(self.slots, low, high)} on"


def ratios(frame: pd.DataFrame, baseline: str = "") -> list[Ratio]:
    """Compute the ratios of every pair of a curve and a twin at every N that both have under the same conditions.

    Args:
        baseline: the curve that takes the place of every other's twin, in the same run (`find_baseline`).
    """
    pairs = []
    for setting, subject, twin in _pairs(frame, baseline):
        for n in _shared(subject, twin):
            a, b = subject.loc[n], twin.loc[n]
            pairs.append(
                Ratio(
                    setting,
                    str(a["curve"]),
                    str(b["curve"]),
                    int(n),
                    float(b["step_ms_median"] / a["step_ms_median"]),
                    float(b["step_ms_ci_low"] / a["step_ms_ci_high"]),
                    float(b["step_ms_ci_high"] / a["step_ms_ci_low"]),
                    (float(a["bytes_per_step"]), float(b["bytes_per_step"])),
                    str(a["case_id"]),
                    str(b["case_id"]),
                    str(b["model"]),
                    bool(a["comparison"] == b["comparison"]) if a["comparison"] and b["comparison"] else None,
                    bool(a["warnings"] or b["warnings"]),
                )
            )
    return pairs


def crossovers(frame: pd.DataFrame, times: dict[tuple[str, str], Growth], baseline: str = "") -> list[Crossover]:
    """Find the N at which each curve overtakes its twins in time per step.

    Args:
        times: the fits of time per step, by (setting, curve).
        baseline: as for `ratios`.
    """
    overtakings = []
    for setting, subject, twin in _pairs(frame, baseline):
        shared = _shared(subject, twin)
        if not shared:
            continue
        names = (setting, str(subject["curve"].iloc[0]), str(twin["curve"].iloc[0]))
        a, b = subject.loc[shared], twin.loc[shared]
        gain = np.log(b["step_ms_median"].to_numpy() / a["step_ms_median"].to_numpy())
        errors = np.hypot(TIME.measured_errors(a).to_numpy(), TIME.measured_errors(b).to_numpy())
        noise = np.random.default_rng(0).standard_normal((DRAWS, len(shared)))
        low, high = np.quantile(_overtakes(shared, gain + errors * noise), (0.025, 0.975), method="nearest")
        slots = float(_overtakes(shared, gain[None])[0])
        expected = _expected(times.get(names[:2]), times.get((setting, names[2])), shared[-1]) if np.isinf(slots) else None
        overtakings.append(Crossover(*names, slots, float(low), float(high), int(shared[0]), int(shared[-1]), expected))
    return overtakings


def _overtakes(slots: list[int], gains: Floats) -> Floats:
    """The N [draws] from which gains [draws, sizes] (log of twin time / own time) stay positive; linear in log N between the sizes.

    0 where a gain is positive at every size, infinite where it is not at the last.
    """
    sizes, behind = np.array(slots, dtype=float), gains <= 0
    last = len(sizes) - 1 - np.argmax(behind[:, ::-1], axis=1)
    after = np.minimum(last + 1, len(sizes) - 1)
    before_gain, after_gain = (np.take_along_axis(gains, at[:, None], axis=1)[:, 0] for at in (last, after))
    with np.errstate(divide="ignore", invalid="ignore"):  # at the last size, where there is nothing after
        crossing = sizes[last] * (sizes[after] / sizes[last]) ** (-before_gain / (after_gain - before_gain))
    return np.where(~behind.any(axis=1), 0.0, np.where(behind[:, -1], np.inf, crossing))


def _expected(subject: Growth | None, twin: Growth | None, after: int) -> tuple[float, float, float] | None:
    """The N beyond `after` (up to `MAX_EXTRAPOLATION` times it) at which the two fitted curves cross, with its 95% interval."""
    if subject is None or twin is None:
        return None
    orders = (subject.order, twin.order)
    resampled = [_crossing(orders, coefficients, after) for coefficients in zip(subject.resampled, twin.resampled, strict=True)]
    best = _crossing(orders, (np.array(subject.coefficients), np.array(twin.coefficients)), after)
    if best is None:
        return None
    low, high = np.quantile([slots or np.inf for slots in resampled], (0.025, 0.975), method="nearest")
    return best, float(min(low, best)), float(max(high, best))


def _crossing(orders: tuple[str, str], coefficients: tuple[Floats, Floats], after: int) -> float | None:
    """The N at which the second curve rises above the first."""

    def gain(log_n: float) -> float:
        subject, twin = (value(order, terms, 2.0**log_n) for order, terms in zip(orders, coefficients, strict=True))
        return twin - subject

    first, last = np.log2(after), np.log2(after * MAX_EXTRAPOLATION)
    return float(2.0 ** optimize.brentq(gain, first, last)) if gain(first) < 0 < gain(last) else None


def _interval(slots: float, low: float, high: float) -> str:
    return f"{round_slots(slots)} [{round_slots(low)}, {round_slots(high)}]"


def _pairs(frame: pd.DataFrame, baseline: str) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """(setting, rows of the curve, rows of its twin), the rows indexed by N."""
    measured = frame[(frame["status"] == "ok") & frame["step_ms_median"].notna()]
    pairs = []
    for setting, part in measured.groupby("setting", sort=False):
        curves = [curve.drop_duplicates("slots").set_index("slots", drop=False) for _, curve in part.groupby("curve", sort=False)]
        if baseline:
            pairs += [(str(setting), *pair) for pair in _against(baseline, curves)]
            continue
        by_kind: dict[tuple[str, ...], list[int]] = {}  # numbers of the curves that are twins of some kind of curve
        for number, curve in enumerate(curves):
            first = curve.iloc[0]
            by_kind.setdefault(("dense", first["run"], first["model"]), []).append(number)
            if first["ran_kernels"] == "torch":
                by_kind.setdefault(("plain", *_same_but_kernels(first)), []).append(number)
        for subject in curves:
            pairs += [(str(setting), subject, curves[number]) for number in sorted(_twins(subject.iloc[0], by_kind))]
    return pairs


def _against(baseline: str, curves: list[pd.DataFrame]) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Each curve with the baseline of its run; models that are not built in come first."""
    of_run = {curve["run"].iloc[0]: curve for curve in curves if without_run(curve["curve"].iloc[0]) == baseline}
    others = [curve for curve in curves if without_run(curve["curve"].iloc[0]) != baseline and curve["run"].iloc[0] in of_run]
    others.sort(key=lambda curve: curve["model"].iloc[0] in BUILT_INS)
    return [(curve, of_run[curve["run"].iloc[0]]) for curve in others]


def _shared(subject: pd.DataFrame, twin: pd.DataFrame) -> list[Any]:
    """The N at which both were measured under the same conditions."""
    both = sorted(set(subject.index) & set(twin.index))
    return [n for n in both if subject.loc[n, "conditions"] == twin.loc[n, "conditions"]]


def _twins(subject: pd.Series, by_kind: dict[tuple[str, ...], list[int]]) -> set[int]:
    """The curves timed in the same run that are the dense models of a sparse one, or the plain kernels of the same model."""
    kinds: list[tuple[str, ...]] = [("dense", subject["run"], model) for model in DENSE_TWINS.get(str(subject["model"]), ())]
    if subject["ran_kernels"] != "torch":
        kinds.append(("plain", *_same_but_kernels(subject)))
    return {number for kind in kinds for number in by_kind.get(kind, ())}


def _same_but_kernels(curve: pd.Series) -> tuple[str, ...]:
    return tuple(curve[name] for name in ("run", "model", "variant", "options", "index"))
