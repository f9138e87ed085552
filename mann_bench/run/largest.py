"""The largest N that a model can train or infer with inside a budget of bytes and time: predicted, then measured by bisection.

Each probe is a case in a process of its own, which may run out of memory or time.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from mann_bench.data.case import Case
from mann_bench.data.registry import find_model
from mann_bench.data.result import Measured, Result
from mann_bench.data.suite import Budget
from mann_bench.data.units import format_duration, format_number, format_slots
from mann_bench.measure.predict import predict, predicted_bytes
from mann_bench.run.runner import run_side_by_side

RESOLUTION = 1.1  # ratio of the smallest N that fails and the largest that fits at which the search ends
MOST_PROBES = 32
USUAL_PROBES = 8  # a doubling or two, then halvings of the distance to a tenth
MOST_SLOTS = 2**31
START = 1024  # first N for a model without a formula

Probe = Callable[[Case], Result]


class Largest(NamedTuple):
    """The answer of a search.

    Attributes:
        slots: largest N that fitted; 0 if none did.
        predicted: largest N by formula; None if there is no formula.
        why: what stopped the search.
        fitted: the result at `slots`.
    """

    slots: int
    predicted: int | None
    why: str
    fitted: Measured | None


def effort(searches: int, budget: Budget) -> str:
    """How long searches may take, in words."""
    usual, most = (format_duration(searches * probes * budget.case_seconds) for probes in (USUAL_PROBES, MOST_PROBES))
    each = f"each by about {USUAL_PROBES} runs of at most {format_duration(budget.case_seconds)}"
    return f"{searches} searches, {each}: likely under {usual}, never over {most}"


def predicted_largest(case: Case, budget: Budget) -> int | None:
    """Largest N whose predicted bytes and seconds are inside the budget; 0 if none is, None for a model without a formula."""
    least = smallest(case)
    if predicted_bytes(case.model_copy(update={"slots": least})) is None:
        return None
    unlimited, entry = budget.model_copy(update={"case_seconds": float("inf")}), find_model(case.model)

    def fits(slots: int) -> bool:
        prediction = predict(case.model_copy(update={"slots": entry.slots_near(slots, case.options)}), unlimited)
        return (prediction.total_bytes or 0) <= budget.memory and prediction.seconds <= budget.case_seconds

    if not fits(least):
        return 0
    low, high = least, 2 * least
    while high < MOST_SLOTS and fits(high):  # upwards, because some predictions overflow far beyond the budget
        low, high = high, min(2 * high, MOST_SLOTS)
    while high - low > low // 64 + 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return entry.slots_near(low, case.options)


def find_largest(case: Case, budget: Budget, probe: Probe, step_ms: float | None = None) -> Iterator[Result | Largest]:
    """Search for the largest N, beginning at the predicted one.

    Args:
        step_ms: time that a step may take; no limit by default.

    Yields:
        The result of each probe and, last, the answer.
    """
    predicted = predicted_largest(case, budget)
    entry = find_model(case.model)
    least, uses_slots = smallest(case), entry.uses_slots
    size = max(least, predicted or entry.slots_near(START, case.options))
    fitted: Measured | None = None
    failed: Result | None = None
    why = f"{MOST_PROBES} probes were made"
    for _ in range(MOST_PROBES):
        result = probe(case.model_copy(update={"slots": size}))
        yield result
        if result.status not in ("ok", "oom", "timeout"):  # a fault of model or machine, which another size does not change
            why, failed = _stop_reason(result, step_ms), result
            break
        if isinstance(result, Measured) and why_not(result, step_ms) is None:
            fitted = result
        else:
            failed = result
        if failed is None:
            size = entry.slots_near(min(MOST_SLOTS, 2 * size), case.options)
        elif fitted is None:
            if size == least or not uses_slots:
                why = _stop_reason(failed, step_ms)
                break
            size = max(least, entry.slots_near(size // 2, case.options))
        else:
            low, high = fitted.case.slots, failed.case.slots
            if high <= max(low + 1, RESOLUTION * low):
                why = _stop_reason(failed, step_ms)
                break
            size = entry.slots_near(max(low + 1, round((low * high) ** 0.5)), case.options, up=True)
            if size >= high:  # nothing between that the model takes
                why = _stop_reason(failed, step_ms)
                break
        most = entry.slots_near(MOST_SLOTS, case.options)
        if fitted is not None and fitted.case.slots >= most:
            why = (
                f"no limit up to N = {format_slots(MOST_SLOTS)}"
                if most > least
                else f"its factors leave no other N than {format_slots(least)}"
            )
            break
    yield Largest(fitted.case.slots if fitted else 0, predicted, why, fitted)


def measured_probe(budget: Budget) -> Probe:
    """Make a probe that runs a case inside the budget, in a process of its own."""
    short = budget.model_copy(update={"rounds": 1, "timing_seconds": min(budget.timing_seconds, 1.0)})

    def probe(case: Case) -> Result:
        return next(iter(run_side_by_side([case], short, lambda case, text: None)))

    return probe


def why_not(result: Result, step_ms: float | None) -> str | None:
    """Why a result does not fit, or None."""
    if result.status != "ok":
        return f"{result.status}: {result.reason}"
    if step_ms is not None and result.time.step_ms.median > step_ms:
        return f"a step takes {format_number(result.time.step_ms.median)} ms, the budget is {step_ms:g} ms"
    return None


def smallest(case: Case) -> int:
    """Smallest N that the model accepts at these sizes."""
    return find_model(case.model).slots_from(2 * case.heads, case.reads, case.options)


def _stop_reason(result: Result, step_ms: float | None) -> str:
    return f"N = {format_slots(result.case.slots)}: {why_not(result, step_ms)}"
