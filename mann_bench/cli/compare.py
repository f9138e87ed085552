"""`mann-bench compare`: two runs, or two states of the code, against each other."""

import contextlib
import json
import shlex
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mann_bench.cli.console import tell, wide_console, writing_to
from mann_bench.cli.options import UNCHANGED, AsJson, SuiteOptions, new_folder, split_names
from mann_bench.cli.tables import print_rows
from mann_bench.data.case import Case, stable_id
from mann_bench.data.errors import UsageError
from mann_bench.data.suite import Suite
from mann_bench.data.text import shortened, visible

if TYPE_CHECKING:
    from mann_bench.run.sides import Side

HEADS = ("case", "A ms", "B ms", "B/A", "95% interval", "p", "verdict", "memory")  # times are those of a step


def compare(
    before: Annotated[
        str, typer.Argument(metavar="A", help="a run folder; with --suite a git ref or a folder with a checkout; not with two --model")
    ] = "",
    after: Annotated[str, typer.Argument(metavar="B", help="the same, to be judged against A")] = "",
    suite: Annotated[
        str, typer.Option(help="run this suite (or FILE.toml) on both sides, timed in turn; nothing is installed; of two --model: quick")
    ] = "",
    options: SuiteOptions = UNCHANGED,
    processes: Annotated[
        int, typer.Option(min=1, help="how often a case is run on both sides, each time in new processes, until its ratio is known well")
    ] = 6,
    out: Annotated[
        Path | None,
        typer.Option(help="folder for the page compare.html; if both sides are run, for the runs too: by default runs/compare-DATE"),
    ] = None,
    threshold: Annotated[str, typer.Option(help="a smaller change of time is the SAME")] = "5%",
    fail_on: Annotated[list[str] | None, typer.Option(help="exit with 1 on slower:5% or larger:1%; may be repeated")] = None,
    anyway: Annotated[bool, typer.Option(help="compare runs of different machines")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge every case of B against A: its time if both sides were timed in turn, and its memory to the byte.

    Two states of the code, mann-bench's or your own (A and B are git refs or folders, --suite), or two models (--model old.py:M --model
    new.py:M) are run and timed in turn. Runs that were made apart (A and B are run folders) tell of memory; nobody knows by how much their
    times differ for nothing.
    """
    from mann_bench.reports.compare.comparison import compare_runs
    from mann_bench.reports.compare.display import models_text, summary, table_row, to_json
    from mann_bench.reports.compare.limits import parse_limits, parse_percent, violations

    limits = parse_limits(fail_on or [])
    smallest_change = parse_percent("--threshold", threshold)
    measures = bool(suite or not before)
    if measures:
        folders = _run_both(before, after, suite, options, out, processes, smallest_change)
        out = folders[0].parent
    else:
        folders = _existing(before), _existing(after)
    comparison = compare_runs(*folders, anyway=anyway)
    for warning in comparison.warnings:
        tell(f"warning: {warning}")
    broken = violations(comparison.cases, limits)
    if out is not None:
        from mann_bench.reports.compare.page import write_compare_page

        with writing_to(out):
            page = write_compare_page(comparison, folders, smallest_change, out, broken)
    if as_json:
        rows = [to_json(case, smallest_change) for case in comparison.cases]
        print(json.dumps({"a": str(folders[0]), "b": str(folders[1]), "warnings": comparison.warnings, "cases": rows, "failed": broken}))
    else:
        if models := models_text(comparison.cases):
            print(visible(models))
        texts = [table_row(case, smallest_change) for case in comparison.cases]
        changed = [f"{name}: {memory}" for name, *_, memory in texts if len(memory) > len("changed")]
        texts = [(*text, memory if len(memory) <= len("changed") else "changed") for *text, memory in texts]
        print_rows(wide_console(), HEADS, texts, spare=("p",))
        for sentence in changed:
            print(visible(sentence))
        print(summary(comparison.cases, smallest_change))
        if measures:
            print("results: " + shlex.join(map(str, folders)))
        if out is not None:
            print(f"page: {page}")
    for sentence in broken:
        tell(f"failed: {shortened(sentence)}")
    raise typer.Exit(1 if broken else 0)


def _run_both(
    before: str, after: str, suite: str, options: SuiteOptions, out: Path | None, processes: int, smallest_change: float
) -> tuple[Path, Path]:
    """Run a suite on both sides, in turn; return the two run folders."""
    from mann_bench.reports.compare.comparison import known_well
    from mann_bench.run.own_models import own_names
    from mann_bench.run.sides import checked_out, refuse_what_cannot_be_compared

    with contextlib.ExitStack() as stack:
        if before and after:
            loaded = options.load(suite)
            suites = loaded, loaded
            sides = stack.enter_context(checked_out(before)), stack.enter_context(checked_out(after))
        elif before:
            raise UsageError(f"compare: expected two git refs or folders beside --suite, got {before!r} alone; . is the working tree")
        else:
            suites, sides = _two_models(suite or "quick", options)
        cases_of_both = suites[0].cases, suites[1].cases
        if sides[0].is_own and (own := own_names([case.model for cases in cases_of_both for case in cases])):
            tell(f"looking at {', '.join(own)} on both sides")
        # what runs the cases takes seconds to import, and so do models of the user's in a process of their own
        refuse_what_cannot_be_compared(sides, cases_of_both, meanwhile=lambda: import_module("mann_bench.run.in_turn"))
        from mann_bench.run.in_turn import run_in_turn

        folder = out or new_folder("compare")
        with writing_to(folder):
            return run_in_turn(suites, sides, folder, processes, lambda a, b: known_well(a, b, smallest_change), tell)


def _two_models(suite: str, options: SuiteOptions) -> tuple[tuple[Suite, Suite], tuple["Side", "Side"]]:
    """The cases of two models, as far as both have them, and the sides that run them."""
    from mann_bench.run.sides import side_of_model

    given = [*split_names(options.models), *(options.model or [])]
    if len(given) != 2:
        raise UsageError(
            "compare: expected two run folders, two git refs and --suite, or two models (--model old.py:MyMemory --model new.py:MyMemory), "
            f"got {f'{len(given)} models' if given else 'nothing to compare'}"
        )
    (old, old_name), (new, new_name) = map(side_of_model, given)
    loaded = replace(options, models=None, model=list(dict.fromkeys([old_name, new_name]))).load(suite)
    cases: list[dict[str, Case]] = [
        {stable_id(case, without=("model", "variant")): case for case in loaded.cases if case.name == name} for name in (old_name, new_name)
    ]
    shared = [key for key in cases[0] if key in cases[1]]
    if not shared:
        raise UsageError(f"compare: expected cases of {suite} that both {given[0]} and {given[1]} have, got none; leave out --suite")
    if left_out := sum(len(side) - len(shared) for side in cases):
        tell(f"warning: {left_out} cases of {suite} are left out, as one of both models has them alone")
    of_old, of_new = ([side[key] for key in shared] for side in cases)
    return (loaded.model_copy(update={"cases": of_old}), loaded.model_copy(update={"cases": of_new})), (old, new)


def _existing(run: str) -> Path:
    if not run or not Path(run).exists():
        which = f"{run!r}, which is none" if run else "one alone"
        raise UsageError(f"compare: expected two run folders, got {which}; for two git refs add --suite quick")
    return Path(run)
