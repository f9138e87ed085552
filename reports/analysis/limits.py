"""How far a machine gets: the largest N within a time a step or a memory, and which curves nobody beats at each N."""

from dataclasses import dataclass

import pandas as pd

from mann_bench.data.registry import BUILT_INS, KINDS
from mann_bench.data.units import format_slots, round_slots
from mann_bench.reports.analysis.scaling import Scaling
from mann_bench.reports.data.quantity import PEAK, TIME, Quantity

BUDGETS: tuple[tuple[str, Quantity, float], ...] = (
    ("10 ms a step", TIME, 10.0),
    *((f"{size} GiB", PEAK, float(size * 2**30)) for size in (1, 16, 80, 141)),
)
EXACT = ("exact", "live")  # searches that miss nothing
WORST_TO_BEST = ("step_ms_median", "peak_bytes", "missed")  # what a front is of: all the less the better


@dataclass(frozen=True)
class Reach:
    """The largest N of one curve within one budget, with its interval, and the largest N that was run at all.

    `slots` is None where even N = 1 is over, infinite where the fitted curve does not grow.
    """

    setting: str
    curve: str
    budget: str
    slots: float | None
    low: float
    high: float
    measured: int

    @property
    def words(self) -> str:
        """For people: `15.5k [12.9k, 20.3k]`; an asterisk where N is beyond what was measured."""
        if self.slots is None:
            return "none"
        if self.slots == float("inf"):
            return f"does not grow up to {format_slots(self.measured)}"
        beyond = "*" if self.slots > self.measured else ""
        return f"{round_slots(self.slots)} [{round_slots(self.low)}, {round_slots(self.high)}]{beyond}"


@dataclass(frozen=True)
class Front:
    """The curves at one N that no other beats in time, memory and recall at once; `beaten` maps each of the rest to one that does."""

    setting: str
    slots: int
    rows: pd.DataFrame
    beaten: dict[str, str]


def reaches(frame: pd.DataFrame, fits: dict[str, dict[tuple[str, str], Scaling]]) -> list[Reach]:
    """Of every curve within every budget; `fits` by quantity's key."""
    largest = frame[frame["status"] == "ok"].groupby(["setting", "curve"])["slots"].max()
    found = []
    for budget, quantity, limit in BUDGETS:
        for (setting, curve), fit in fits[quantity.key].items():
            slots, low, high = fit.growth.largest_within(limit) or (None, 0.0, 0.0)
            found.append(Reach(setting, curve, budget, slots, low, high, int(largest[setting, curve])))
    return found


def fronts(frame: pd.DataFrame) -> list[Front]:
    """One at each N that several curves with a memory of N slots ran at, in one run; what reads exactly has recall 1."""
    floors = [name for name, entry in BUILT_INS.items() if not entry.uses_slots]
    measured = frame[(frame["status"] == "ok") & ~frame["model"].isin(floors)]
    finds = measured["recall"].fillna(measured["index"].isin(EXACT).astype(float))  # nobody knows what an index finds that was not asked
    measured = measured.assign(missed=1 - finds).drop_duplicates(["setting", "slots", "curve"])
    found = []
    same_work = measured["model"].map(_work)
    for _, rows in measured.groupby(["run", "setting", "slots", same_work], sort=False):
        if len(rows) < 2:
            continue
        setting, slots = str(rows["setting"].iloc[0]), int(rows["slots"].iloc[0])
        beaten = {}
        for _, row in rows.iterrows():
            as_good = (rows[list(WORST_TO_BEST)] <= row[list(WORST_TO_BEST)]).all(axis=1)
            better = as_good & (rows[list(WORST_TO_BEST)] < row[list(WORST_TO_BEST)]).any(axis=1)
            if better.any():
                beaten[str(row["curve"])] = str(rows.loc[better].sort_values("step_ms_median")["curve"].iloc[0])
        found.append(Front(setting, slots, rows[~rows["curve"].isin(list(beaten))].sort_values("step_ms_median"), beaten))
    return found


def _work(model: str) -> str:
    """What a case does: models compete with models, indexes with indexes, an operation with other ways to do the same."""
    kind = model.partition(":")[0]
    return model if kind == "op" else kind if kind in KINDS else "model"
