"""`mann-bench largest`: the largest memory inside a budget."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mann_bench.cli.console import console, wide_console, writing_to
from mann_bench.cli.options import AsJson, Device, Mode, ModelOptions, Seed, Threads, new_folder, one_case, with_options
from mann_bench.cli.tables import print_rows
from mann_bench.data.fields import Json
from mann_bench.data.suite import Budget
from mann_bench.data.units import format_bytes, format_duration, parse_size, round_slots


def largest(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="models, variants (ntm-checkpointed) or package.module:factory")],
    memory: Annotated[str, typer.Option(help="bytes a case may take")] = "4G",
    seconds: Annotated[float, typer.Option(min=1, help="seconds a case may take, all in")] = 60,
    step_ms: Annotated[float | None, typer.Option(min=0, help="milliseconds that a step may take")] = None,
    steps: Annotated[int, typer.Option(min=1, help="T")] = 10,
    batch: Annotated[int, typer.Option(min=1, help="B")] = 1,
    mode: Mode = None,
    device: Device = None,
    threads: Threads = None,
    index: Annotated[str, typer.Option(help="the index of a sparse model")] = "exact",
    option: ModelOptions = None,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option(help="folder for the probes' results; default runs/largest-DATE")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the largest memory each model can train and infer with inside a budget: predicted first, then measured."""
    from mann_bench.run.session import search_and_store

    modes = [mode] if mode else ["train", "infer"]
    fields = {"steps": steps, "batch": batch, "index": index}
    cases = [one_case("largest", model, "64", each, device, threads, seed, **fields) for model in models for each in modes]
    cases = with_options(cases, option)
    budget = Budget(memory=parse_size(memory), case_seconds=seconds)
    folder = out or new_folder("largest")
    with writing_to(folder):
        rows = search_and_store(cases, budget, step_ms, folder, console)
    if as_json:
        print(json.dumps(rows))
    else:
        print_rows(wide_console(), [*rows[0]], [[_text(name, value) for name, value in row.items()] for row in rows])
        for row in rows:
            if not row["measured N"]:
                print(f"{row['model']} {row['mode']}: nothing fits into {format_bytes(budget.memory)} and {format_duration(seconds)}")
        print(f"results: {folder / 'results.jsonl'}")
    raise typer.Exit(0 if any(row["measured N"] for row in rows) else 1)


def _text(name: str, value: Json) -> str:
    """A value of the table: sizes as elsewhere, and a word where nothing fits, or where there is no formula."""
    if not name.endswith(" N"):
        return "-" if value is None else str(value)
    if value is None:
        return "no formula"
    assert isinstance(value, int)
    return round_slots(value) if value else "none fits"
