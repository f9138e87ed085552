"""Sparse against dense in the same setting and at the same N: speed-up, memory ratio, and the N where the curves cross."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

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


@dataclass(frozen=True)
class Crossover:
    """Between which measured sizes the sparse curve becomes faster, and the estimate between them on log-log lines."""

    setting: str
    sparse: str
    dense: str
    slots: float | None
    after: int | None
    before: int | None

    @property
    def words(self) -> str:
        """For people."""
        if self.slots is None:
            return f"faster at every N measured (from {self.before})" if self.before is not None else "not faster at any N measured"
        return f"between N = {self.after} and {self.before}, near {self.slots:.0f}"


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
                )
            )
    return found


def crossovers(frame: pd.DataFrame) -> list[Crossover]:
    """Where each sparse curve overtakes its dense twins in time per step."""
    found = []
    for setting, sparse, dense in _pairs(frame):
        shared = sorted(set(sparse.index) & set(dense.index))
        gain = np.array([np.log(dense.loc[n]["step_ms_median"] / sparse.loc[n]["step_ms_median"]) for n in shared])
        names = (setting, str(sparse["curve"].iloc[0]), str(dense["curve"].iloc[0]))
        ahead = [bool((gain[i:] > 0).all()) for i in range(len(shared))]
        if not shared or not any(ahead):
            found.append(Crossover(*names, None, None, None))
            continue
        first = ahead.index(True)
        if first == 0:
            found.append(Crossover(*names, None, None, int(shared[0])))
            continue
        low, high = shared[first - 1], shared[first]
        part = -gain[first - 1] / (gain[first] - gain[first - 1])
        found.append(Crossover(*names, float(low * (high / low) ** part), int(low), int(high)))
    return found


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
