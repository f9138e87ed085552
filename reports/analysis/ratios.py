"""A curve against its twin in the same setting and at the same N: speed-up, memory ratio, and the N from which it is faster.

The twins of a sparse model are the dense models it approximates. A memory of today, ours or another package's, is compared with SAM. The
twin of a native kernel is the plain torch code.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mann_bench.data.registry import BUILT_INS, PEERS
from mann_bench.data.units import format_slots, round_slots
from mann_bench.reports.analysis.scaling import DRAWS, Floats, Growth, values
from mann_bench.reports.data.frame import Row, without_run
from mann_bench.reports.data.quantity import INTERVAL_WIDTH, TIME

Curve = dict[int, Row]  # the cases of a curve in one setting, by N

BISECTIONS = 50  # of a range of log N: to the last digit
MAX_EXTRAPOLATION = 64  # how far beyond the largest N measured a fit is trusted, as a factor
DENSE_TWINS = {"sam": ("ntm", "dam"), "sdnc": ("dnc",)}  # Rae et al. compare SAM with NTM and DAM, SDNC with DNC
TODAY = ("sdm", "pkm", "deltanet", *PEERS)
TWINS = DENSE_TWINS | dict.fromkeys(TODAY, ("sam",))


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
            a, b = subject[n], twin[n]
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
        names = (setting, str(_first(subject)["curve"]), str(_first(twin)["curve"]))
        (a, a_low, a_high), (b, b_low, b_high) = (_times(curve, shared) for curve in (subject, twin))
        gain = np.log(b / a)
        errors = np.hypot(np.log(a_high / a_low), np.log(b_high / b_low)) / INTERVAL_WIDTH
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
    best = float(_crossings(orders, (np.array([subject.coefficients]), np.array([twin.coefficients])), after)[0])
    if np.isinf(best):
        return None
    low, high = np.quantile(_crossings(orders, (subject.resampled, twin.resampled), after), (0.025, 0.975), method="nearest")
    return best, float(min(low, best)), float(max(high, best))


def _crossings(orders: tuple[str, str], coefficients: tuple[Floats, Floats], after: int) -> Floats:
    """The N [draws] at which the second curve rises above the first, by bisection of log N; infinite where it does not.

    Args:
        coefficients: of both curves, [draws, terms].
    """

    def gains(log_n: Floats) -> Floats:
        subject, twin = (values(order, terms, np.exp2(log_n)) for order, terms in zip(orders, coefficients, strict=True))
        return twin - subject

    draws = len(coefficients[0])
    low, high = np.full(draws, np.log2(after)), np.full(draws, np.log2(after * MAX_EXTRAPOLATION))
    crosses = (gains(low) < 0) & (gains(high) > 0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        behind = gains(middle) < 0
        low, high = np.where(behind, middle, low), np.where(behind, high, middle)
    return np.where(crosses, np.exp2((low + high) / 2), np.inf)


def _interval(slots: float, low: float, high: float) -> str:
    return f"{round_slots(slots)} [{round_slots(low)}, {round_slots(high)}]"


def _pairs(frame: pd.DataFrame, baseline: str) -> list[tuple[str, Curve, Curve]]:
    """Setting, curve and twin of every pair."""
    measured = frame[(frame["status"] == "ok") & frame["step_ms_median"].notna()]
    settings: dict[str, dict[str, Curve]] = {}
    for row in measured.to_dict("records"):
        settings.setdefault(str(row["setting"]), {}).setdefault(str(row["curve"]), {}).setdefault(int(row["slots"]), row)
    pairs: list[tuple[str, Curve, Curve]] = []
    for setting, of_setting in settings.items():
        curves = list(of_setting.values())
        if baseline:
            pairs += [(setting, *pair) for pair in _against(baseline, curves)]
            continue
        by_kind: dict[tuple[str, ...], list[int]] = {}  # numbers of the curves that are twins of some kind of curve
        for number, curve in enumerate(curves):
            first = _first(curve)
            by_kind.setdefault(("model", first["run"], first["model"]), []).append(number)
            if first["ran_kernels"] == "torch":
                by_kind.setdefault(("model in torch", first["run"], first["model"]), []).append(number)
                by_kind.setdefault(("plain", *_same_but_kernels(first)), []).append(number)
        for subject in curves:
            pairs += [(setting, subject, curves[number]) for number in sorted(_twins(_first(subject), by_kind))]
    return pairs


def _first(curve: Curve) -> Row:
    return next(iter(curve.values()))


def _times(curve: Curve, slots: list[int]) -> tuple[Floats, Floats, Floats]:
    """Time of a step at some N: medians, and the ends of their intervals."""
    columns = (TIME.column, TIME.low, TIME.high)
    median, low, high = (np.array([curve[n][column] for n in slots], dtype=float) for column in columns)
    return median, low, high


def _against(baseline: str, curves: list[Curve]) -> list[tuple[Curve, Curve]]:
    """Each curve with the baseline of its run; models that are not built in come first."""
    firsts = list(map(_first, curves))
    of_run = {first["run"]: curve for first, curve in zip(firsts, curves, strict=True) if without_run(first["curve"]) == baseline}
    others = [
        curve for first, curve in zip(firsts, curves, strict=True) if without_run(first["curve"]) != baseline and first["run"] in of_run
    ]
    others.sort(key=lambda curve: _first(curve)["model"] in BUILT_INS)
    return [(curve, of_run[_first(curve)["run"]]) for curve in others]


def _shared(subject: Curve, twin: Curve) -> list[int]:
    """The N at which both were measured under the same conditions."""
    return [n for n in sorted(set(subject) & set(twin)) if subject[n]["conditions"] == twin[n]["conditions"]]


def _twins(subject: Row, by_kind: dict[tuple[str, ...], list[int]]) -> set[int]:
    """The curves timed in the same run that a model is compared with (`TWINS`), or the plain kernels of the same model.

    A model in torch is compared with those in torch, where there are any: against native ones its implementation would be judged.
    """
    kinds: list[tuple[str, ...]] = []
    for model in TWINS.get(str(subject["model"]), ()):
        alike, every = ("model in torch", subject["run"], model), ("model", subject["run"], model)
        kinds.append(alike if subject["ran_kernels"] == "torch" and alike in by_kind else every)
    if subject["ran_kernels"] != "torch":
        kinds.append(("plain", *_same_but_kernels(subject)))
    return {number for kind in kinds for number in by_kind.get(kind, ())}


def _same_but_kernels(curve: Row) -> tuple[str, ...]:
    return tuple(curve[name] for name in ("run", "model", "variant", "options", "index"))
