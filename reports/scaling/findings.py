"""All that is concluded from stored results, before any formatting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mann_bench.reports.analysis.limits import Front, Reach, fronts, reaches
from mann_bench.reports.analysis.ratios import Crossover, Ratio, crossovers, ratios
from mann_bench.reports.analysis.scaling import Scaling, scalings
from mann_bench.reports.claims.claims import Judged, judge_claims
from mann_bench.reports.data.frame import environments, load_frame
from mann_bench.reports.data.quantity import QUANTITIES, TIME


@dataclass(frozen=True)
class Findings:
    """`fits` by quantity's key and (setting, curve)."""

    frame: pd.DataFrame
    settings: list[str]
    fits: dict[str, dict[tuple[str, str], Scaling]]
    ratios: list[Ratio]
    crossovers: list[Crossover]
    reaches: list[Reach]
    fronts: list[Front]
    claims: list[Judged]
    environments: list[dict[str, Any]]


def conclude(runs: Sequence[Path], learned: Mapping[str, list[Judged]] | None = None) -> Findings:
    """Load the runs and conclude; UsageError naming file and line if one cannot be read. `learned`: as `judge_claims` takes it."""
    frame = load_frame(runs)
    fits = {quantity.key: scalings(frame, quantity) for quantity in QUANTITIES}
    return Findings(
        frame,
        list(dict.fromkeys(frame["setting"])),
        fits,
        ratios(frame),
        crossovers(frame, fits[TIME.key]),
        reaches(frame, fits),
        fronts(frame),
        judge_claims(frame, learned),
        environments(runs),
    )
