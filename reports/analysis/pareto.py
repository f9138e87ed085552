"""Pareto fronts: at each N, the curves that no other curve beats in time, memory and recall at once."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mann_bench.data.registry import KINDS, SHIPPED
from mann_bench.reports.data.frame import EXACT_INDEXES

COSTS = ["step_ms_median", "peak_bytes", "missed"]  # less is better; missed = 1 - recall
INTERVAL = ["step_ms_ci_low", "step_ms_ci_high"]


@dataclass(frozen=True)
class ParetoFront:
    """The rows on the front at one N, fastest first; `beaten` maps each curve off the front to one that beats it."""

    setting: str
    slots: int
    rows: pd.DataFrame
    beaten: dict[str, str]


def pareto_fronts(frame: pd.DataFrame) -> list[ParetoFront]:
    """Find the front at each N of each run at which two or more curves do the same work.

    A recall that was not measured counts as 1 for an exact search and as 0 for any other. Models without N slots do not take part.
    """
    without_slots = [name for name, entry in SHIPPED.items() if not entry.uses_slots]
    measured = frame[(frame["status"] == "ok") & ~frame["model"].isin(without_slots)]
    recall = measured["recall"].fillna(measured["index"].isin(EXACT_INDEXES).astype(float))
    measured = measured.assign(missed=1 - recall).drop_duplicates(["setting", "slots", "curve"])
    fronts = []
    for _, rows in measured.groupby(["run", "setting", "slots", measured["model"].map(_work)], sort=False):
        if len(rows) < 2:
            continue
        beaten = _beaten(rows)
        best = rows[~rows["curve"].isin(list(beaten))].sort_values("step_ms_median")
        fronts.append(ParetoFront(str(rows["setting"].iloc[0]), int(rows["slots"].iloc[0]), best, beaten))
    return fronts


def _beaten(rows: pd.DataFrame) -> dict[str, str]:
    """The curves that another one beats, and the fastest that does. Times whose intervals overlap do not decide."""
    costs, curves = rows[COSTS].to_numpy(dtype=float), list(map(str, rows["curve"]))
    low_ms, high_ms = rows[INTERVAL].to_numpy(dtype=float).T
    beaten = {}
    for curve, own, own_low_ms in zip(curves, costs, low_ms, strict=True):
        surely_less = (high_ms < own_low_ms) | (costs[:, 1:] < own[1:]).any(axis=1)
        (better,) = np.nonzero((costs <= own).all(axis=1) & surely_less)
        if len(better):
            beaten[curve] = curves[better[np.argmin(costs[better, 0])]]
    return beaten


def _work(model: str) -> str:
    """What competes with what: models with models, indexes with indexes, an op with other implementations of itself."""
    kind = model.partition(":")[0]
    return model if kind == "op" else kind if kind in KINDS else "model"
