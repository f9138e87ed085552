"""Commands about single cases: `profile` takes one apart, `largest` finds how far one goes. Importing this registers them."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from mann_bench.case import Case
from mann_bench.cli import AsJson, Device, Mode, Seed, Threads, app, console, wide_console
from mann_bench.errors import UsageError
from mann_bench.sizes import parse_size
from mann_bench.suite import Budget


@app.command()
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
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option(help="folder for the probes' results; default runs/largest-DATE")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the largest memory each model can train and infer with inside a budget: predicted first, then measured."""
    from mann_bench.session import search_and_store

    modes = [mode] if mode else ["train", "infer"]
    fields = {"steps": steps, "batch": batch, "index": index}
    cases = [one_case("largest", model, "64", of, device, threads, seed, **fields) for model in models for of in modes]
    budget = Budget(memory=parse_size(memory), case_seconds=seconds)
    folder = out or Path("runs") / f"largest-{datetime.now():%Y%m%d-%H%M%S}"
    rows = search_and_store(cases, budget, step_ms, folder, console)
    if as_json:
        print(json.dumps(rows))
    else:
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        wide_console().print(table)
        print(f"results: {folder / 'results.jsonl'}")
    raise typer.Exit(0 if any(row["measured N"] for row in rows) else 1)


@app.command()
def profile(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="a built-in model or variant (ntm-checkpointed), or package.module:factory")
    ],
    slots: Annotated[str, typer.Option(help="memory size, as 1M")] = "64k",
    steps: Annotated[int, typer.Option(min=1, help="T")] = 32,
    batch: Annotated[int, typer.Option(min=1, help="B")] = 1,
    mode: Mode = "train",
    device: Device = None,
    threads: Threads = None,
    kernels: Annotated[str, typer.Option(help="auto, native or torch")] = "auto",
    index: Annotated[str, typer.Option(help="the index of a sparse model")] = "exact",
    fill: Annotated[str, typer.Option(help="full (N random rows) or empty")] = "full",
    seed: Seed = None,
    memory: Annotated[str, typer.Option(help="bytes it may take")] = "16G",
    seconds: Annotated[float, typer.Option(min=1, help="seconds it may take")] = 600,
    out: Annotated[Path | None, typer.Option(help="folder for the page; default runs/profile-MODEL-DATE")] = None,
    as_json: AsJson = False,
) -> None:
    """Take one case apart: time and memory of every step and phase, forward and backward, and whose bytes its peak is."""
    from mann_bench.profile import profile_in_worker
    from mann_bench.reports.profile_page import verdicts, write_profile_page

    chosen = one_case(
        "profile", model, slots, mode, device, threads, seed, steps=steps, batch=batch, kernels=kernels, index=index, fill=fill
    )
    folder = out or Path("runs") / f"profile-{chosen.model.replace(':', '-')}-{datetime.now():%Y%m%d-%H%M%S}"
    found = profile_in_worker(chosen, folder, parse_size(memory), seconds)
    if isinstance(found, dict):
        console.print(f"{found['status']}: {found['reason']}", markup=False, soft_wrap=True)
        raise typer.Exit(1)
    page = write_profile_page(found, folder)
    if as_json:
        print(found.model_dump_json())
        return
    print("\n".join(verdicts(found)))
    print(f"page: {page}")


def one_case(
    suite: str, model: str, slots: str, mode: str | None, device: str | None, threads: int | None, seed: int | None, **fields: Any
) -> Case:
    """The case that the options of a single measurement describe; UsageError naming the option at fault."""
    from mann_bench.environment import check_device, usable_threads, why_no_device
    from mann_bench.registry import ModelEntry, find_model, split_variant

    name, variant = split_variant(model)
    if find_model(name).workload != ModelEntry.workload:
        raise UsageError(f"{suite}: expected a model, got {model!r}; ops and indexes have suites of their own")
    check_device(device or "cpu")
    if missing := why_no_device(device or "cpu"):
        raise UsageError(f"--device: {missing}")
    chosen = {"mode": mode, "device": device, "seed": seed, "threads": threads or usable_threads()}
    try:
        return Case(
            suite=suite,
            model=name,
            variant=variant,
            slots=parse_size(slots),
            **fields,
            **{key: value for key, value in chosen.items() if value is not None},
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"--{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from error
