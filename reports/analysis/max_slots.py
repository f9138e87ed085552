"""The largest N that fits a budget of time per step or of memory."""

from dataclasses import dataclass

import pandas as pd

from mann_bench.data.units import format_slots, round_slots
from mann_bench.reports.analysis.scaling import Growth
from mann_bench.reports.data.quantity import PEAK, TIME, Quantity

BUDGETS: tuple[tuple[str, Quantity, float], ...] = (  # name, quantity, limit in the quantity's unit
    ("10 ms a step", TIME, 10.0),
    *((f"{size} GiB", PEAK, float(size * 2**30)) for size in (1, 16, 80, 141)),
)


UNREAL = 2.0**50  # slots that no machine holds: a curve that hardly grows reaches them, and their number says nothing


@dataclass(frozen=True)
class MaxSlots:
    """The largest N of one curve within one budget, from its fit, with the 95% interval.

    `slots` is None where even N = 1 exceeds the budget, infinite where the fitted curve does not grow. `measured` is the largest N run.
    """

    setting: str
    curve: str
    budget: str
    slots: float | None
    low: float
    high: float
    measured: int

    @property
    def text(self) -> str:
        """`15.5k [12.9k, 20.3k]`; an asterisk marks an N beyond the largest one measured."""
        if self.slots is None:
            return "none"
        if self.slots == float("inf"):
            return f"more than {format_slots(self.measured)}"
        if self.slots > UNREAL:
            return f"far more than {format_slots(self.measured)}"
        beyond = "*" if self.slots > self.measured else ""
        return f"{round_slots(self.slots)} [{round_slots(self.low)}, {round_slots(self.high)}]{beyond}"


def max_slots(frame: pd.DataFrame, fits: dict[str, dict[tuple[str, str], Growth]]) -> list[MaxSlots]:
    """Find the largest N of every curve within every budget.

    Args:
        fits: by the quantity's key, then by (setting, curve).
    """
    largest = frame[frame["status"] == "ok"].groupby(["setting", "curve"])["slots"].max()
    limits = []
    for budget, quantity, limit in BUDGETS:
        for (setting, curve), fit in fits[quantity.key].items():
            slots, low, high = fit.largest_within(limit) or (None, 0.0, 0.0)
            limits.append(MaxSlots(setting, curve, budget, slots, low, high, int(largest[setting, curve])))
    return limits
