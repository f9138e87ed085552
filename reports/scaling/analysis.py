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
from mann_bench.reports.data.frame import load_frame
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


def analyse(runs: Sequence[Path]) -> Analysis:
    """Load and analyse the runs; UsageError naming file and line if one cannot be read."""
    frame = load_frame(runs)
    fits = {quantity.key: growths(frame, quantity) for quantity in QUANTITIES}
    return Analysis(
        frame,
        list(dict.fromkeys(frame["setting"])),
        fits,
        gains(frame),
        ratios(frame),
        crossovers(frame, fits[TIME.key]),
        max_slots(frame, fits),
        pareto_fronts(frame),
    )
