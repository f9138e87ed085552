"""Two sets of results, case by case: FASTER, SLOWER, SAME or INCONCLUSIVE from raw samples, memory by exact bytes.

A verdict needs both: the interval of the ratio wholly beyond the threshold, and a rank test that holds after correction for all the
cases tested. An interval wholly within the threshold is SAME; anything else is INCONCLUSIVE, and more samples would tell.
"""

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.data.result import Measured, Result
from mann_bench.data.store import load_results, load_run
from mann_bench.measure.timing import split_rounds
from mann_bench.reports.analysis.significance import Change, change, corrected, log_median, widened

Verdict = Literal["FASTER", "SLOWER", "SAME", "INCONCLUSIVE", "BROKEN", "FIXED", "NOT MEASURED"]

LEVEL = 0.05
APART = (
    "the runs were not timed in turn: a case is as unsure as the cases differ among themselves, and a change of all alike may be the "
    "machine's; for two states of the code, compare A B --suite NAME times them in turn"
)
TOGETHER_S = 1.0  # a start is known to the second
RECALL = 0.005  # what recall may fall unmentioned
BYTES = ("peak_bytes", "tape_bytes", "state_bytes", "bytes_per_step")
REFUSED = ("cpu", "cores", "usable_threads", "gpus")  # another machine: a difference of times says nothing about the code
WARNED = ("ram_bytes", "memory_limit_bytes", "huge_pages", "system", "python", "torch", "torch_cuda", "compiler", "allocator", "packages")


@dataclass(frozen=True)
class Limit:
    """What fails a comparison, as `slower:5%` or `larger:1%`."""

    what: Literal["slower", "larger"]
    fraction: float


@dataclass(frozen=True)
class Compared:
    """One case on both sides. `before` and `after` stand for all processes of a side: its first failure, else its first result.

    `step_ms` is the mean over processes of their median; `bytes_` maps each quantity to (before, after); `p_value` is corrected for all
    cases. `in_turn`: both sides ran side by side.
    """

    case: Case
    before: Result
    after: Result
    step_ms: tuple[float, float] | None
    change: Change | None
    p_value: float | None
    bytes_: dict[str, tuple[float, float]]
    in_turn: bool

    def verdict(self, threshold: float) -> Verdict:
        """About time, where a change of less than `threshold` (0.05 is 5%) is the same."""
        if self.change is None or self.p_value is None:
            ran = self.before.status == "ok", self.after.status == "ok"
            return {(True, False): "BROKEN", (False, True): "FIXED"}.get(ran, "NOT MEASURED")  # type: ignore[return-value]
        if self.p_value < LEVEL and self.change.low > 1 + threshold:
            return "SLOWER"
        if self.p_value < LEVEL and self.change.high < 1 / (1 + threshold):
            return "FASTER"
        if 1 / (1 + threshold) <= self.change.low and self.change.high <= 1 + threshold:
            return "SAME"
        return "INCONCLUSIVE"

    def larger(self, fraction: float = 0.0) -> list[str]:
        """The quantities of memory that grew by more than a fraction."""
        return [name for name, (before, after) in self.bytes_.items() if after > before * (1 + fraction)]

    @property
    def memory(self) -> str:
        """In words: `same`, or what changed and by how much."""
        changed = {name: both for name, both in self.bytes_.items() if both[0] != both[1]}
        if not self.bytes_:
            return "-"
        return ", ".join(grown(name, *both) for name, both in changed.items()) or "same"

    @property
    def warnings(self) -> list[str]:
        """Why a change of time may not be what it seems: other kernels ran, or the index finds less."""
        said = []
        name, old, new = self.case.label, self.before, self.after
        a, b = old.backend, new.backend
        if a and b and (a.kernels, a.index) != (b.kernels, b.index):
            said.append(f"{name}: kernels {a.kernels}, index {a.index} ran in A, {b.kernels}, {b.index} in B")
        if old.recall is not None and new.recall is not None and new.recall < old.recall - RECALL:
            said.append(f"{name}: recall {old.recall:.3f} in A, {new.recall:.3f} in B")
        return said


def compare_results(before: Iterable[Result], after: Iterable[Result]) -> tuple[list[Compared], list[Case], list[Case]]:
    """Cases of both sides in the first's order, and those that only one side has. UsageError if they have none in common.

    A case measured in several processes has several results: their samples are kept apart, as a process may be lucky as a whole.
    """
    old, new = _by_case(before), _by_case(after)
    both = [key for key in old if key in new]
    if not both:
        raise UsageError("compare: expected at least one case on both sides, got none; run the same suite with the same options twice")
    in_turn = {key: side_by_side(old[key], new[key]) for key in both}
    found = {key: one for key in both if (one := _change(old[key], new[key], in_turn[key]))}
    apart = [key for key in found if not in_turn[key]]
    found |= zip(apart, widened([found[key] for key in apart]), strict=True)
    p_values = dict(zip(found, corrected([one.p_value for one in found.values()]), strict=True))
    compared = [_compared(old[key], new[key], found.get(key), p_values.get(key), in_turn[key]) for key in both]
    return compared, [old[k][0].case for k in old if k not in new], [new[k][0].case for k in new if k not in old]


def known_well(before: Sequence[Result], after: Sequence[Result], threshold: float) -> bool:
    """Whether more processes of one case would tell nothing new: its ratio is known to half the threshold, or cannot be."""
    found = _change(before, after, side_by_side(before, after))
    return found is None or found.high / found.low <= 1 + threshold


@dataclass(frozen=True)
class Comparison:
    """All cases of two runs, and what to know before believing it."""

    cases: list[Compared]
    warnings: list[str]


def compare_runs(before: Path, after: Path, *, anyway: bool = False) -> Comparison:
    """Two stored runs; UsageError if they are of different machines, unless `anyway`."""
    refused, warnings = differences(load_run(before), load_run(after))
    if refused and not anyway:
        raise UsageError(f"compare: expected two runs of one machine, got {'; '.join(refused)}; add --anyway to compare them all the same")
    cases, only_before, only_after = compare_results(load_results(before), load_results(after))
    if not all(one.in_turn for one in cases):
        warnings.append(APART)
    warnings = refused + warnings
    warnings += [warning for one in cases for warning in one.warnings]
    warnings += [
        f"only in {side}: {', '.join(case.label for case in rest)}" for side, rest in (("A", only_before), ("B", only_after)) if rest
    ]
    return Comparison(cases, warnings)


def differences(before: dict[str, Any], after: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What differs between two `run.json`: (of the machine, a reason to refuse; of its software, a reason to warn)."""
    one, other = before.get("environment", {}), after.get("environment", {})
    if not one or not other:
        return [], ["run.json without an environment: nobody knows whether both sides ran on the same machine"]

    def differing(names: Sequence[str]) -> list[str]:
        pairs = ((name, *(_plain(side.get(name)) for side in (one, other))) for name in names)
        return [f"{name}: {a} and {b}" for name, a, b in pairs if a != b]

    dirty = [f"{name} had uncommitted changes" for name, side in (("A", one), ("B", other)) if (side.get("git") or {}).get("dirty")]
    return differing(REFUSED), differing(WARNED) + dirty


def parse_limits(texts: Sequence[str]) -> list[Limit]:
    """`slower:5%`, `larger:1%` (or `larger:0%`); UsageError otherwise."""
    limits = []
    for text in texts:
        what, _, percent = text.partition(":")
        if what not in ("slower", "larger"):
            raise UsageError(f"--fail-on: expected slower:5% or larger:1%, got {text!r}")
        limits.append(Limit("slower" if what == "slower" else "larger", parse_percent("--fail-on", percent)))
    return limits


def parse_percent(option: str, text: str) -> float:
    """`5%` -> 0.05; UsageError naming the option."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)%", text.strip())
    if not match:
        raise UsageError(f"{option}: expected a percentage such as 5%, got {text!r}")
    return float(match[1]) / 100


def violations(compared: Sequence[Compared], limits: Sequence[Limit]) -> list[str]:
    """What breaks the limits, a sentence each; a case that ran before and does not now breaks any."""
    said = []
    for one in compared:
        name = one.case.label
        if limits and one.verdict(0) == "BROKEN":
            said.append(f"{name}: ran before, now {one.after.status}: {one.after.reason}")
        for limit in limits:
            if limit.what == "slower" and one.verdict(limit.fraction) == "SLOWER":
                assert one.change is not None
                found = one.change
                said.append(f"{name}: {found.ratio:.3g}x the time [{found.low:.3g}, {found.high:.3g}]")
            if limit.what == "larger":
                said += [f"{name}: {grown(quantity, *one.bytes_[quantity])}" for quantity in one.larger(limit.fraction)]
    return said


def grown(quantity: str, before: float, after: float) -> str:
    """`tape_bytes 12,384 -> 12,800 (+3.36%)`."""
    return f"{quantity} {before:,.0f} -> {after:,.0f}" + (f" ({after / before - 1:+.2%})" if before else "")


def summary(compared: Sequence[Compared], threshold: float) -> str:
    """How many cases have which verdict, in a line."""
    counts = Counter(one.verdict(threshold) for one in compared)
    bytes_ = Counter("-" if not one.bytes_ else "same" if one.memory == "same" else "changed" for one in compared)
    times = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return f"{len(compared)} cases: {times}; memory: {bytes_['same']} the same to the byte, {bytes_['changed']} changed"


def row(one: Compared, threshold: float) -> tuple[str, ...]:
    """One case for people: name, both medians, ratio, interval, p, verdict, memory."""
    shape = f"{one.case.label} B={one.case.batch} T={one.case.steps}"
    times = [f"{ms:.4g}" for ms in one.step_ms] if one.step_ms else [one.before.status, one.after.status]
    if one.change is None:
        return (shape, *times, "-", "-", "-", one.verdict(threshold), one.memory)
    found = one.change
    return (
        shape,
        *times,
        f"{found.ratio:.3f}",
        f"[{found.low:.3f}, {found.high:.3f}]",
        f"{one.p_value:.2g}",
        one.verdict(threshold),
        one.memory,
    )


def to_json(one: Compared, threshold: float) -> dict[str, Any]:
    """One case for a program."""
    found = one.change
    return {
        "case_id": one.before.case_id,
        "case": one.case.model_dump(),
        "verdict": one.verdict(threshold),
        "step_ms": list(one.step_ms) if one.step_ms else None,
        "ratio": {"value": found.ratio, "ci_low": found.low, "ci_high": found.high} if found else None,
        "p_value": one.p_value,
        "bytes": {name: list(both) for name, both in one.bytes_.items()},
        "status": [one.before.status, one.after.status],
        "reason": [one.before.reason, one.after.reason],
    }


def _by_case(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Results by all that is measured; the suite's name and an id computed by older code do not tell cases apart."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.case.model_dump_json(exclude={"suite"}), []).append(result)
    return found


def _compared(before: Sequence[Result], after: Sequence[Result], found: Change | None, p_value: float | None, in_turn: bool) -> Compared:
    stand = [next((result for result in side if result.status != "ok"), side[0]) for side in (before, after)]
    step_ms = (_step_ms(before), _step_ms(after)) if found else None
    return Compared(before[0].case, stand[0], stand[1], step_ms, found, p_value, _bytes(before, after), in_turn)


def _step_ms(results: Sequence[Result]) -> float:
    return math.exp(statistics.fmean(log_median(r.time.pass_ms.samples) for r in results if r.status == "ok")) / results[0].case.steps


def _change(before: Sequence[Result], after: Sequence[Result], in_turn: bool) -> Change | None:
    if not all(isinstance(result, Measured) for result in (*before, *after)):
        return None
    times = ([result.time for result in side if isinstance(result, Measured)] for side in (before, after))
    old, new = ([split_rounds(time.pass_ms.samples, time.round_counts) for time in side] for side in times)
    return change(old, new, side_by_side=in_turn) if old and new else None


def side_by_side(before: Sequence[Result], after: Sequence[Result]) -> bool:
    """Whether partners started together, so that they were timed in turn."""

    def start(result: Result) -> float:
        return datetime.fromisoformat(result.started_at).timestamp()

    return all(abs(start(old) - start(new)) <= TOGETHER_S for old, new in zip(before, after, strict=False))


def _bytes(before: Sequence[Result], after: Sequence[Result]) -> dict[str, tuple[float, float]]:
    """Each quantity as its largest over the processes of a side."""
    memories = [[result.memory for result in side if result.memory] for side in (before, after)]
    if not all(memories):
        return {}
    return {name: (max(getattr(m, name) for m in memories[0]), max(getattr(m, name) for m in memories[1])) for name in BYTES}


def _plain(value: Any) -> str:
    if isinstance(value, list):  # GPUs: which they are, not how much of them was free
        return ", ".join(str(part.get("name", part)) if isinstance(part, dict) else str(part) for part in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items() if key != "mann-bench")
    return "unknown" if value is None else str(value)
