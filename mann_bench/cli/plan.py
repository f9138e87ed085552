"""`mann-bench plan`: the cases of a suite and what they will take."""

import json
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, NamedTuple

import typer

from mann_bench.cli.console import tell, wide_console
from mann_bench.cli.options import AsJson, SuiteName, SuiteOptions
from mann_bench.cli.tables import print_rows
from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.data.labels import FIELDS, LETTERS
from mann_bench.data.suite import Budget, Suite
from mann_bench.data.units import format_bytes, format_duration, format_slots

# Fields of a case that the plan shows: a column where they vary, and a line above the table where they do not.
SHOWN = ("options", "kernels", "index", "mode", *FIELDS)


class Outlook(NamedTuple):
    """What is known of a case before it runs.

    Attributes:
        size_bytes: predicted; None if unknown.
        seconds: predicted; 0 if it is not run.
        problem: why it can never be built, or None.
        unavailable: what this machine lacks for it, or None.
    """

    case: Case
    size_bytes: int | None
    bytes_by_cause: dict[str, int] | None
    seconds: float
    problem: str | None
    unavailable: str | None
    over_budget: bool

    @property
    def remark(self) -> str:
        """What stands in place of the time of a case that is not run; sentences under the table say more."""
        return "never" if self.problem else "not here" if self.unavailable else "too large" if self.over_budget else ""


def plan(
    suite: SuiteName,
    options: SuiteOptions,
    hours: Annotated[
        float | None, typer.Option(help="instead, into how many shards (`run --shard`) the suite must be divided to end within this")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the cases of a suite with predicted bytes and time, those that this machine cannot run, and those that can never be built.

    Nothing is run.
    """
    if hours is not None and not 0 < hours < float("inf"):
        raise UsageError(f"--hours: expected a positive number, as 8 or 0.5, got {hours:g}")
    planned = options.load(suite)
    if hours is not None:
        tell_shards(planned, hours, as_json)
        raise typer.Exit(0)
    outlooks = look_ahead(planned.cases, planned.budget)
    problems = Counter(outlook.problem for outlook in outlooks if outlook.problem)
    if as_json:
        rows = [
            {
                "case_id": outlook.case.case_id,
                "case": outlook.case.model_dump(),
                "bytes": outlook.size_bytes,
                "bytes_by_cause": outlook.bytes_by_cause,
                "seconds": round(outlook.seconds, 1),
                "problem": outlook.problem,
                "unavailable": outlook.unavailable,
                "over_budget": outlook.over_budget,
            }
            for outlook in outlooks
        ]
        print(json.dumps(rows))
        raise typer.Exit(1 if problems else 0)
    print_table(outlooks)
    skipped = sum(bool(outlook.remark) for outlook in outlooks)
    total = format_duration(sum(outlook.seconds for outlook in outlooks))
    kept = f", {skipped} of them not run" if skipped else ""
    if too_large := sum(outlook.remark == "too large" for outlook in outlooks):
        tell(f"warning: {too_large} cases take more than the budget of {format_bytes(planned.budget.memory)} and are skipped")
    print(
        f"{len(outlooks)} cases{kept}, about {total}, within a factor of three; memory budget {format_bytes(planned.budget.memory)} a case"
    )
    for reason, count in Counter(outlook.unavailable for outlook in outlooks if outlook.unavailable and not outlook.problem).items():
        tell(f"warning: {count} cases are unavailable here: {reason}")
    for problem, count in problems.items():
        tell(f"error: {problem}" + (f" ({count} cases)" if count > 1 else ""))
    raise typer.Exit(1 if problems else 0)


def tell_shards(planned: Suite, hours: float, as_json: bool) -> None:
    """Say into how many shards a suite must be divided to end within so many hours; UsageError if one comparison takes longer."""
    from mann_bench.run.division import shards_within, weigh

    weighed = weigh(planned)
    if weighed.longest_s > hours * 3600:
        raise UsageError(
            f"--hours {hours:g}: expected at least {format_duration(weighed.longest_s)}, which one comparison takes alone (its cases are "
            "timed in turn); allow more hours, or give fewer models or a smaller [budget] case_seconds"
        )
    divided = shards_within(weighed.seconds, hours * 3600)
    facts = {
        "cases": len(planned.cases),
        "too_large": weighed.too_large,
        "comparisons": len(weighed.seconds),
        "hours": round(sum(weighed.seconds) / 3600, 3),
        "longest_comparison_hours": round(weighed.longest_s / 3600, 3),
        "shards": len(divided),
        "longest_shard_hours": round(max(divided) / 3600, 3),
    }
    if as_json:
        print(json.dumps(facts))
        return
    too_large = f", {weighed.too_large} of them too large for {format_bytes(planned.budget.memory)}" if weighed.too_large else ""
    in_all = format_duration(sum(weighed.seconds))
    print(f"{len(planned.cases)} cases{too_large}, in {len(weighed.seconds)} comparisons; about {in_all} in all")
    print(f"within {hours:g} h: {len(divided)} shards, the longest about {format_duration(max(divided))}; within a factor of three")
    print(f"call on each node: mann-bench run SUITE --shard N/{len(divided)} --out DIR/N")


def print_table(outlooks: Sequence[Outlook]) -> None:
    """Print what is the same in all cases as a line, then a row a case of what varies."""
    cases = [outlook.case for outlook in outlooks]
    varying = [name for name in SHOWN if len({getattr(case, name) for case in cases}) > 1]
    same = [f"{LETTERS.get(name, name)} {text}" for name in SHOWN if name not in varying and (text := str(getattr(cases[0], name)))]
    output = wide_console()
    output.print("in all cases: " + ", ".join(same))
    rows = [["model", "N", *(LETTERS.get(name, name) for name in varying), "predicted", "time"]]
    for outlook in outlooks:
        case = outlook.case
        predicted = format_bytes(outlook.size_bytes) if outlook.size_bytes is not None else "unknown"
        values = [str(getattr(case, name)) for name in varying]
        rows.append([case.name, format_slots(case.slots), *values, predicted, outlook.remark or format_duration(round(outlook.seconds))])
    print_rows(output, rows[0], rows[1:])


def look_ahead(cases: Sequence[Case], budget: Budget) -> list[Outlook]:
    """What is known of each case."""
    from mann_bench.run.own_models import options_of, why_not_made

    not_made = why_not_made(options_of(cases), meanwhile=lambda: import_module("mann_bench.run.runner"))
    from mann_bench.measure.predict import predict, why_unbuildable
    from mann_bench.run.runner import why_not_here

    outlooks = []
    for case in cases:
        prediction = predict(case, budget)
        size_bytes = prediction.total_bytes
        problem = (why_unbuildable(case) if size_bytes is None else None) or not_made.get(case.model)
        unavailable = why_not_here(case)
        over_budget = size_bytes is not None and case.device == "cpu" and size_bytes > budget.memory
        seconds = 0.0 if problem or unavailable or over_budget else prediction.seconds
        outlooks.append(Outlook(case, size_bytes, prediction.bytes_by_cause, seconds, problem, unavailable, over_budget))
    return outlooks
