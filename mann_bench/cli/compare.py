"""`mann-bench compare`: two runs, or two states of the code, against each other."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mann_bench.cli.console import tell, wide_console, writing_to
from mann_bench.cli.options import UNCHANGED, AsJson, SuiteOptions, new_folder
from mann_bench.data.errors import UsageError
from mann_bench.data.suite import Suite
from mann_bench.data.text import shortened


def compare(
    before: Annotated[str, typer.Argument(metavar="A", help="a run folder; with --suite a git ref or a folder with a checkout")],
    after: Annotated[str, typer.Argument(metavar="B", help="the same, to be judged against A")],
    suite: Annotated[str, typer.Option(help="run this suite (or FILE.toml) at both git refs, interleaved; nothing is installed")] = "",
    options: SuiteOptions = UNCHANGED,
    processes: Annotated[
        int, typer.Option(min=1, help="with --suite: how often a case is run, each time in a new process, until its ratio is known well")
    ] = 6,
    out: Annotated[
        Path | None, typer.Option(help="folder for the page compare.html; with --suite also for both runs, by default runs/compare-DATE")
    ] = None,
    threshold: Annotated[str, typer.Option(help="a smaller change of time is the SAME")] = "5%",
    fail_on: Annotated[list[str] | None, typer.Option(help="exit with 1 on slower:5% or larger:1%; may be repeated")] = None,
    anyway: Annotated[bool, typer.Option(help="compare runs of different machines")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge every case of B against A by its raw samples, and its memory to the byte."""
    from mann_bench.reports.compare.comparison import compare_runs
    from mann_bench.reports.compare.display import summary, table_row, to_json
    from mann_bench.reports.compare.limits import parse_limits, parse_percent, violations

    limits = parse_limits(fail_on or [])
    smallest_change = parse_percent("--threshold", threshold)
    if suite:
        folders = _run_both(before, after, options.load(suite), out, processes, smallest_change)
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
        table = Table("case", "A ms/step", "B ms/step", "B/A", "95% interval", "p", "verdict", "memory")
        for case in comparison.cases:
            table.add_row(*table_row(case, smallest_change))
        wide_console().print(table)
        print(summary(comparison.cases, smallest_change))
        if suite:
            print("results: " + shlex.join(map(str, folders)))
        if out is not None:
            print(f"page: {page}")
    for sentence in broken:
        tell(f"failed: {shortened(sentence)}")
    raise typer.Exit(1 if broken else 0)


def _run_both(before: str, after: str, suite: Suite, out: Path | None, processes: int, smallest_change: float) -> tuple[Path, Path]:
    """Run the suite at both states of the code, in turn; return the two run folders."""
    from mann_bench.reports.compare.comparison import known_well
    from mann_bench.run.checkouts import checked_out, run_at_both

    with checked_out(before) as old, checked_out(after) as new:
        folder = out or new_folder("compare")
        with writing_to(folder):
            return run_at_both(suite, (old, new), folder, processes, lambda a, b: known_well(a, b, smallest_change), tell)


def _existing(run: str) -> Path:
    if not Path(run).exists():
        raise UsageError(f"compare: expected two run folders, got {run!r}, which is none; for two git refs add --suite quick")
    return Path(run)
