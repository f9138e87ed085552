"""`mann-bench run`: measure a suite."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mann_bench.cli.console import console, stoppable, summarize, tell, writing_to
from mann_bench.cli.options import AsJson, SuiteName, SuiteOptions, new_folder
from mann_bench.data.errors import UsageError
from mann_bench.data.shards import parse_shard
from mann_bench.data.suite import Suite
from mann_bench.data.units import format_bytes

if TYPE_CHECKING:
    from mann_bench.run.on_ray import SuiteOnRay


def run(
    suite: SuiteName,
    options: SuiteOptions,
    rounds: Annotated[int | None, typer.Option(min=1, help="rounds of timing: in each, the cases of a comparison take turns")] = None,
    timing_seconds: Annotated[float | None, typer.Option(min=0.01, help="seconds of samples of one case, over all rounds")] = None,
    cache: Annotated[str | None, typer.Option(help="warm, or flushed before each pass")] = None,
    budget_seconds: Annotated[float | None, typer.Option(min=0.1, help="seconds one case may take, all in")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the results; default runs/SUITE-DATE")] = None,
    resume: Annotated[bool, typer.Option(help="go on with the run in --out: only what is missing is run")] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="N/COUNT", help="only this part, as 3/16; `mann-bench merge` joins the folders of all parts")
    ] = None,
    on: Annotated[
        str | None, typer.Option(metavar="ray[://HOST:PORT]", help="measure on the hosts of a Ray cluster, a comparison a host")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a suite; every finished case is stored at once and survives whatever comes after it."""
    part = parse_shard(shard) if shard is not None else None
    cases = options.load(suite)
    if cache not in (None, "warm", "flushed"):
        raise UsageError(f"--cache: expected warm or flushed, got {cache!r}")
    changes = {"rounds": rounds, "timing_seconds": timing_seconds, "cache": cache, "case_seconds": budget_seconds}
    budget = cases.budget.model_copy(update={name: value for name, value in changes.items() if value is not None})
    if resume and out is None:
        raise UsageError("--resume: expected --out FOLDER of the run to go on with, got none")
    from mann_bench.run.own_models import options_of, own_names, why_not_made

    own = [] if resume else own_names([case.model for case in cases.cases])  # a run that goes on was looked at when it began
    if own:
        tell(f"looking at {', '.join(own)}")
        if problems := why_not_made(options_of(cases.cases), meanwhile=lambda: import_module("mann_bench.run.session")):
            raise UsageError("; ".join(problems.values()))
    from mann_bench.run.division import part_of
    from mann_bench.run.session import open_run, run_and_store

    planned = cases.model_copy(update={"budget": budget})
    to_run = part_of(planned, part)
    hosts = connect(on, to_run) if on is not None else None
    path = out or new_folder(planned.name if part is None else f"{planned.name}-{part.number}-of-{part.count}")
    with writing_to(path):
        folder = open_run(planned, path, resume=resume, shard=part)
    if part is not None:
        tell(f"shard {part}: {len(to_run.cases)} of {len(planned.cases)} cases")
    with stoppable(path):
        statuses = run_and_store(to_run, folder, console, hosts.run if hosts else None)
    if hosts:
        hosts.cluster.close()
    if not to_run.cases:
        tell(f"nothing to do: the suite has fewer comparisons than {part.count if part else 1} shards; the others run all of them")
    summarize("cases", folder.results_path, statuses, as_json)
    only_skipped = set(+statuses) == {"skipped"}
    if only_skipped:
        tell(
            f"warning: nothing was measured, as `mann-bench plan` says beforehand: every case exceeds {format_bytes(budget.memory)}, "
            "the memory budget of a case; raise it, or give smaller --slots"
        )
    failed = statuses["error"] + statuses["unverified"]
    raise typer.Exit(1 if failed or (to_run.cases and not (statuses["ok"] or only_skipped)) else 0)


def connect(address: str, suite: Suite) -> "SuiteOnRay":
    """Connect to a cluster; UsageError as `RayCluster` and `SuiteOnRay`."""
    from mann_bench.run.on_ray import SuiteOnRay  # imports torch
    from mann_bench.run.ray_cluster import RayCluster

    return SuiteOnRay(RayCluster(address), suite)
