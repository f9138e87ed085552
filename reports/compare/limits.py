"""Limits on a change that make a comparison fail: `--fail-on slower:5%` and `larger:1%`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mann_bench.data.errors import UsageError
from mann_bench.data.units import format_number
from mann_bench.reports.compare.comparison import CaseComparison
from mann_bench.reports.compare.display import size_change


@dataclass(frozen=True)
class Limit:
    """The largest acceptable change of time (`slower`) or memory (`larger`)."""

    what: Literal["slower", "larger"]
    fraction: float


def parse_limits(texts: Sequence[str]) -> list[Limit]:
    """Parse `slower:5%` and `larger:1%`; UsageError for anything else."""
    limits = []
    for text in texts:
        what, _, percent = text.partition(":")
        if what not in ("slower", "larger"):
            raise UsageError(f"--fail-on: expected slower:5% or larger:1%, got {text!r}")
        limits.append(Limit("slower" if what == "slower" else "larger", parse_percent("--fail-on", percent)))
    return limits


def parse_percent(option: str, text: str) -> float:
    """Parse `5%` as 0.05; UsageError naming the option for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)%", text.strip())
    if not match:
        raise UsageError(f"{option}: expected a percentage such as 5%, got {text!r}")
    return float(match[1]) / 100


def violations(cases: Sequence[CaseComparison], limits: Sequence[Limit]) -> list[str]:
    """Return a sentence for each violation; a case that ran before and no longer does violates every limit."""
    broken = []
    for each in cases:
        name = each.label
        if limits and each.verdict(0) == "BROKEN":
            broken.append(f"{name}: ran before, now {each.after.status}: {each.after.reason}")
        for limit in limits:
            if limit.what == "slower" and each.verdict(limit.fraction) == "SLOWER":
                assert each.change is not None
                ratio, low, high = map(format_number, (each.change.ratio, each.change.low, each.change.high))
                broken.append(f"{name}: {ratio}x the time [{low}, {high}]")
            if limit.what == "larger":
                broken += [f"{name}: {size_change(quantity, *each.sizes[quantity])}" for quantity in each.larger(limit.fraction)]
    return broken
