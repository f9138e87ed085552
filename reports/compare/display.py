"""A comparison as rows of a table, as a summary and as JSON."""

from collections import Counter
from collections.abc import Sequence

from mann_bench.data.fields import Json
from mann_bench.reports.compare.comparison import CaseComparison


def size_change(quantity: str, before: float, after: float) -> str:
    """Format a change of bytes: `tape_bytes 12,384 -> 12,800 (+3.36%)`."""
    return f"{quantity} {before:,.0f} -> {after:,.0f}" + (f" ({after / before - 1:+.2%})" if before else "")


def memory_text(case: CaseComparison) -> str:
    """Return `same`, or the quantities of memory that changed; `-` if memory was not measured on both sides."""
    if not case.sizes:
        return "-"
    changed = [size_change(name, before, after) for name, (before, after) in case.sizes.items() if before != after]
    return ", ".join(changed) or "same"


def models_text(cases: Sequence[CaseComparison]) -> str:
    """Which models are compared, if those of both sides differ; else an empty string."""
    pairs = dict.fromkeys(case.models for case in cases if case.models[0] != case.models[1])
    return " ".join(f"A is {a}, B is {b}." for a, b in pairs)


def summary(cases: Sequence[CaseComparison], threshold: float) -> str:
    """Count the cases of each verdict in a line."""
    counts = Counter(case.verdict(threshold) for case in cases)
    texts = [memory_text(case) for case in cases]
    same, changed = texts.count("same"), sum(text not in ("same", "-") for text in texts)
    times = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return f"{len(cases)} cases: {times}; memory: {same} the same to the byte, {changed} changed"


def table_row(case: CaseComparison, threshold: float) -> tuple[str, ...]:
    """Return a case as texts: name, both medians, ratio, interval, p, verdict, memory."""
    times = [f"{ms:.4g}" for ms in case.step_ms] if case.step_ms else [case.before.status, case.after.status]
    ratio = (f"{case.ratio:.3f}" if case.ratio else "-", "-", "-")
    if case.change is not None:
        ratio = (f"{case.change.ratio:.3f}", f"[{case.change.low:.3f}, {case.change.high:.3f}]", f"{case.p_value:.2g}")
    return (case.label, *times, *ratio, case.verdict(threshold), memory_text(case))


def to_json(case: CaseComparison, threshold: float) -> dict[str, Json]:
    """Return a case as a JSON object; its ratio has no interval if the sides were not timed in turn."""
    low, high = (case.change.low, case.change.high) if case.change else (None, None)
    return {
        "case_id": case.before.case_id,
        "case": case.case.model_dump(),
        "models": list(case.models),
        "verdict": case.verdict(threshold),
        "step_ms": list(case.step_ms) if case.step_ms else None,
        "ratio": {"value": case.ratio, "ci_low": low, "ci_high": high} if case.ratio else None,
        "p_value": case.p_value,
        "bytes": {name: list(both) for name, both in case.sizes.items()},
        "status": [case.before.status, case.after.status],
        "reason": [case.before.reason, case.after.reason],
    }
