"""Everything that is computed from stored results for the scaling report, before any formatting."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mann_bench.reports.analysis.gains import Gain, gains
from mann_bench.reports.analysis.max_slots import MaxSlots, max_slots
from mann_bench.reports.analysis.pareto import ParetoFront, pareto_fronts
from mann_bench.reports.analysis.ratios import Crossover, Ratio, crossovers, ratios
from mann_bench.reports.analysis.scaling import Growth, growths
from mann_bench.reports.data.frame import find_baseline, load_frame
from mann_bench.reports.data.quantity import QUANTITIES, TIME


@dataclass(frozen=True)
class Analysis:
    """The results and what follows from them; `fits` by the quantity's key, then by (setting, curve)."""

    frame: pd.DataFrame
    settings: list[str]
    fits: dict[str, dict[tuple[str, str], Growth]]
    gains: list[Gain]
    ratios: list[Ratio]
    crossovers: list[Crossover]
    max_slots: list[MaxSlots]
    fronts: list[ParetoFront]
    baseline: str = ""

    @property
    def main_setting(self) -> str:
        """The setting with the most measured cases, which plots and the first sentence show."""
        measured = self.frame.loc[self.frame["status"] == "ok", "setting"]
        return str(measured.mode(dropna=True).iloc[0]) if len(measured) else self.settings[0]


def analyse(runs: Sequence[Path], baseline: str = "") -> Analysis:
    """Load and analyse the runs; UsageError naming file and line if one cannot be read.

    Args:
        baseline: the curve that all others are compared with, instead of each with its twins.
    """
    return analyse_frame(load_frame(runs), baseline)


def analyse_frame(frame: pd.DataFrame, baseline: str = "") -> Analysis:
    """Analyse results that are loaded already, as `analyse` does."""
    find_baseline(frame, baseline)
    fits = {quantity.key: growths(frame, quantity) for quantity in QUANTITIES}
    return Analysis(
        frame,
        list(dict.fromkeys(frame["setting"])),
        fits,
        gains(frame),
        ratios(frame, baseline),
        crossovers(frame, fits[TIME.key], baseline),
        max_slots(frame, fits),
        pareto_fronts(frame),
        baseline,
    )
