"""Two sets of results compared case by case: time from raw samples, memory to the byte.

A change of time counts (FASTER, SLOWER) if the interval of the ratio lies wholly beyond the threshold and a rank test is significant after
correction for the number of cases. A ratio whose interval lies wholly within the threshold is SAME. Anything else is INCONCLUSIVE: more
samples would decide.

Times that were not taken in turn are not judged (NOT IN TURN). A machine differs from one minute to the next by more than most changes, and
two runs do not tell by how much: it is not in the spread of their samples, and not in that over their cases, which differ from each other.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from mann_bench.data.case import Case
from mann_bench.data.conditions import conditions_of
from mann_bench.data.errors import UsageError
from mann_bench.data.labels import Labels
from mann_bench.data.result import Result
from mann_bench.data.store import RESULTS, iter_records, load_run
from mann_bench.reports.analysis.significance import Change, change, corrected, log_median
from mann_bench.reports.compare.environments import environment_differences
from mann_bench.reports.compare.judged import BYTES, Group, JudgedResult, by_case, by_case_of_one_model, judged
from mann_bench.reports.compare.remedy import not_in_turn

Verdict = Literal["FASTER", "SLOWER", "SAME", "INCONCLUSIVE", "NOT IN TURN", "BROKEN", "FIXED", "NOT MEASURED"]

SIGNIFICANCE_LEVEL = 0.05
SAME_START_S = 1.0  # starts are stored to the second; results without the id of their comparison are judged by them
MOST_LISTED = 20  # cases that are named in a warning
MAX_RECALL_LOSS = 0.005  # a larger one is a warning


@dataclass(frozen=True)
class CaseComparison:
    """One case on both sides.

    `case` is that of B. `models` are those of both sides, which differ if each side has one model. `label` tells it from all other cases of
    both sides. `before` and `after` represent the processes of a side: the first that failed, else the first. `step_ms`: the geometric mean
    over processes of their median. `change` is None if nothing was measured, or not in turn. `p_value` is corrected for the number of
    cases. `sizes`: bytes (before, after) by quantity.
    """

    case: Case
    models: tuple[str, str]
    label: str
    before: JudgedResult
    after: JudgedResult
    step_ms: tuple[float, float] | None
    change: Change | None
    p_value: float | None
    sizes: dict[str, tuple[float, float]]

    @property
    def ratio(self) -> float | None:
        """Time of B over time of A; None if it was not measured on both sides."""
        if self.change is not None:
            return self.change.ratio
        return self.step_ms[1] / self.step_ms[0] if self.step_ms else None

    def verdict(self, threshold: float) -> Verdict:
        """Judge the time; a change by less than `threshold` (0.05 is 5%) is the SAME."""
        if self.step_ms is None:
            ran_before, ran_after = self.before.status == "ok", self.after.status == "ok"
            return "BROKEN" if ran_before and not ran_after else "FIXED" if ran_after and not ran_before else "NOT MEASURED"
        if self.change is None or self.p_value is None:
            return "NOT IN TURN"
        if self.p_value < SIGNIFICANCE_LEVEL and self.change.low > 1 + threshold:
            return "SLOWER"
        if self.p_value < SIGNIFICANCE_LEVEL and self.change.high < 1 / (1 + threshold):
            return "FASTER"
        if 1 / (1 + threshold) <= self.change.low and self.change.high <= 1 + threshold:
            return "SAME"
        return "INCONCLUSIVE"

    def larger(self, fraction: float = 0.0) -> list[str]:
        """Return the quantities of memory that grew by more than a fraction."""
        return [name for name, (before, after) in self.sizes.items() if after > before * (1 + fraction)]

    @property
    def warnings(self) -> list[str]:
        """Reasons why the times are not comparable: other kernels ran, or the index finds less."""
        reasons = []
        name, old, new = self.label, self.before, self.after
        a, b = old.backend, new.backend
        if a and b and (a.kernels, a.index) != (b.kernels, b.index):
            reasons.append(f"{name}: kernels {a.kernels}, index {a.index} ran in A, {b.kernels}, {b.index} in B")
        if old.recall is not None and new.recall is not None and new.recall < old.recall - MAX_RECALL_LOSS:
            reasons.append(f"{name}: recall {old.recall:.3f} in A, {new.recall:.3f} in B")
        return reasons


def compare_results(before: Iterable[Result], after: Iterable[Result]) -> tuple[list[CaseComparison], list[str], list[str]]:
    """Compare the cases that both sides have; UsageError if there are none.

    If they have none and each side has one model, these two are compared, in the cases that differ in nothing else.

    A case measured in several processes has several results. Their samples are kept apart, as one process may be faster by chance.

    Returns:
        The comparisons in the order of `before`, and the labels of the cases that only `before` and only `after` has.
    """
    old, new = by_case(before), by_case(after)
    shared = [key for key in old if key in new]
    if not shared:
        old, new = by_case_of_one_model(old), by_case_of_one_model(new)
        shared = [key for key in old if key in new]
    if not shared:
        raise UsageError("compare: expected at least one case on both sides, got none; run the same suite with the same options twice")
    changes = {key: result for key in shared if (result := _change(old[key].results, new[key].results))}
    p_values = dict(zip(changes, corrected([each.p_value for each in changes.values()]), strict=True))
    all_cases = {key: group.case for key, group in {**old, **new}.items()}
    label = Labels(all_cases.values())
    cases = [_compare_case(old[key], new[key], label(all_cases[key]), changes.get(key), p_values.get(key)) for key in shared]
    only_before, only_after = ([label(all_cases[key]) for key in a if key not in b] for a, b in ((old, new), (new, old)))
    return cases, only_before, only_after


def known_well(before: Sequence[Result], after: Sequence[Result], threshold: float) -> bool:
    """Return whether one case needs no more processes: its ratio is known to half the threshold, or cannot be measured."""
    time_change = _change([judged(result) for result in before], [judged(result) for result in after])
    return time_change is None or time_change.high / time_change.low <= 1 + threshold


@dataclass(frozen=True)
class Comparison:
    """All cases of two runs, and warnings about how comparable the runs are."""

    cases: list[CaseComparison]
    warnings: list[str]


def compare_runs(before: Path, after: Path, *, anyway: bool = False) -> Comparison:
    """Compare two stored runs; UsageError if they ran on different machines, unless `anyway`."""
    cases, only_before, only_after = compare_results(iter_records(before, RESULTS), iter_records(after, RESULTS))
    refused, warnings = _condition_differences(before, after, cases)
    if refused and not anyway:
        raise UsageError(f"compare: expected two runs of one machine, got {'; '.join(refused)}; add --anyway to compare them all the same")
    if any(case.verdict(0) == "NOT IN TURN" for case in cases):
        warnings.append(not_in_turn((name for case in cases for name in case.models), load_run(after).get("suite", "")))
    warnings = refused + warnings
    warnings += [warning for case in cases for warning in case.warnings]
    warnings += [f"only in {side}: {listed(labels)}" for side, labels in (("A", only_before), ("B", only_after)) if labels]
    return Comparison(cases, warnings)


def listed(labels: Sequence[str]) -> str:
    """List cases in a sentence: the first `MOST_LISTED`, and how many more there are."""
    more = len(labels) - MOST_LISTED
    return ", ".join(labels[:MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")


def _condition_differences(before: Path, after: Path, cases: Sequence[CaseComparison]) -> tuple[list[str], list[str]]:
    """Differences between the conditions of the two sides of any case: reasons to refuse, and to warn."""
    old, new = load_run(before), load_run(after)
    refused: dict[str, None] = {}
    warnings: dict[str, None] = {}
    for a, b in dict.fromkeys((case.before.conditions, case.after.conditions) for case in cases):
        of_machine, others = environment_differences(conditions_of(old, a), conditions_of(new, b))
        refused |= dict.fromkeys(of_machine)
        warnings |= dict.fromkeys(others)
    apart = dict.fromkeys((case.before.host, case.after.host) for case in cases if case.before.host and case.after.host)
    warnings |= {f"A ran on host {a}, B on {b}: their times are not judged": None for a, b in apart if a != b}
    return list(refused), list(warnings)


def _compare_case(before: Group, after: Group, label: str, time_change: Change | None, p_value: float | None) -> CaseComparison:
    sides = before.results, after.results
    first = [next((result for result in side if result.status != "ok"), side[0]) for side in sides]
    models = before.case.name, after.case.name
    measured = all(result.samples_ms for side in sides for result in side)
    step_ms = (_step_ms(before.case, before.results), _step_ms(after.case, after.results)) if measured else None
    return CaseComparison(after.case, models, label, first[0], first[1], step_ms, time_change, p_value, _sizes(*sides))


def _step_ms(case: Case, results: Sequence[JudgedResult]) -> float:
    return math.exp(statistics.fmean(log_median(result.samples_ms) for result in results if result.samples_ms)) / case.steps


def _change(before: Sequence[JudgedResult], after: Sequence[JudgedResult]) -> Change | None:
    """The change of time by the processes that were timed in turn; None if there are none, or a process measured none."""
    if not before or not after or not all(result.samples_ms for result in (*before, *after)):
        return None
    pairs = pairs_in_turn(before, after)
    if not pairs:
        return None
    old, new = ([result.rounds_ms for result in side] for side in zip(*pairs, strict=True))
    return change(old, new)


def pairs_in_turn(before: Sequence[JudgedResult], after: Sequence[JudgedResult]) -> list[tuple[JudgedResult, JudgedResult]]:
    """The processes of both sides that were timed in turn, in pairs; none if the sides were measured apart.

    Results that were timed in turn have the id of their comparison. Older results have none: if all their processes started together, pair
    by pair, they were timed in turn. What ran on different hosts was not.
    """
    if any(result.comparison for result in (*before, *after)):
        of_comparison = {result.comparison: result for result in after if result.comparison}
        return [(old, of_comparison[old.comparison]) for old in before if old.comparison in of_comparison]

    def start(result: JudgedResult) -> float:
        return datetime.fromisoformat(result.started_at).timestamp()

    pairs = [(old, new) for old, new in zip(before, after, strict=False) if old.host == new.host]
    return pairs if all(abs(start(old) - start(new)) <= SAME_START_S for old, new in pairs) else []


def _sizes(before: Sequence[JudgedResult], after: Sequence[JudgedResult]) -> dict[str, tuple[float, float]]:
    """Each quantity of memory (before, after), the largest over the processes of a side."""
    sides = [[result.sizes for result in side if result.sizes] for side in (before, after)]
    if not all(sides):
        return {}
    largest = ([max(sizes) for sizes in zip(*side, strict=True)] for side in sides)
    return dict(zip(BYTES, zip(*largest, strict=True), strict=True))
