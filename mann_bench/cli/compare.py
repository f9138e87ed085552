"""`mann-bench compare`: two runs, or two states of the code, against each other."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mann_bench.cli.console import console, wide_console
from mann_bench.cli.options import AsJson, Device, Mode, Models, OwnModel, Seed, Slots, Threads, choose
from mann_bench.data.errors import UsageError


def compare(
    before: Annotated[str, typer.Argument(metavar="A", help="a run folder; with --suite a git ref or a folder with a checkout")],
    after: Annotated[str, typer.Argument(metavar="B", help="the same, to be judged against A")],
    suite: Annotated[str, typer.Option(help="run this suite (or FILE.toml) at both git refs, interleaved; nothing is installed")] = "",
    models: Models = "",
    model: OwnModel = None,
    slots: Slots = "",
    device: Device = None,
    threads: Threads = None,
    mode: Mode = None,
    seed: Seed = None,
    processes: Annotated[
        int, typer.Option(min=1, help="with --suite: how often a case is run, each time in a new process, until its ratio is known well")
    ] = 6,
    out: Annotated[Path | None, typer.Option(help="with --suite: folder for both runs; default runs/compare-DATE")] = None,
    threshold: Annotated[str, typer.Option(help="a smaller change of time is the SAME")] = "5%",
    fail_on: Annotated[list[str] | None, typer.Option(help="exit with 1 on slower:5% or larger:1%; may be repeated")] = None,
    anyway: Annotated[bool, typer.Option(help="compare runs of different machines")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge every case of B against A by its raw samples, and its memory to the byte."""
    from mann_bench.reports.compare import comparison as comparing

    limits = comparing.parse_limits(fail_on or [])
    least = comparing.parse_percent("--threshold", threshold)
    folders = (Path(before), Path(after))
    if suite:
        chosen = choose(suite, models, model, slots, device, threads, mode, seed)
        from mann_bench.run.checkouts import checked_out, run_at_both

        target = out or Path("runs") / f"compare-{datetime.now():%Y%m%d-%H%M%S}"
        with checked_out(before) as old, checked_out(after) as new:
            folders = run_at_both(
                chosen,
                (old, new),
                target,
                processes,
                lambda a, b: comparing.known_well(a, b, least),
                lambda text: console.print(text, markup=False, soft_wrap=True),
            )
    elif not all(folder.exists() for folder in folders):
        missing = next(folder for folder in folders if not folder.exists())
        raise UsageError(f"compare: expected two run folders, got {str(missing)!r}, which is none; for two git refs add --suite quick")
    comparison = comparing.compare_runs(*folders, anyway=anyway)
    for warning in comparison.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    broken = comparing.violations(comparison.cases, limits)
    if as_json:
        rows = [comparing.to_json(one, least) for one in comparison.cases]
        print(json.dumps({"a": str(folders[0]), "b": str(folders[1]), "warnings": comparison.warnings, "cases": rows, "failed": broken}))
    else:
        table = Table("case", "A ms/step", "B ms/step", "B/A", "95% interval", "p", "verdict", "memory")
        for one in comparison.cases:
            table.add_row(*comparing.row(one, least))
        wide_console().print(table)
        print(comparing.summary(comparison.cases, least))
        if suite:
            print(f"results: {folders[0]} {folders[1]}")
    for sentence in broken:
        print(f"failed: {sentence}", file=sys.stderr)
    raise typer.Exit(1 if broken else 0)
