"""`mann-bench submit`: hand a suite to a cluster's scheduler."""

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from mann_bench.cli.console import tell
from mann_bench.cli.options import SuiteName, SuiteOptions, new_folder, plain_name
from mann_bench.data.errors import UsageError

SCHEDULERS = ("slurm",)
TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}")  # as sbatch takes it: minutes, or days-hours:minutes:seconds


def submit(
    scheduler: Annotated[str, typer.Argument(metavar="slurm", help="the scheduler")],
    suite: SuiteName,
    options: SuiteOptions,
    array: Annotated[int, typer.Option(min=1, max=10_000, help="shards; more than nodes lets nodes that come later help")] = 8,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs of a shard")] = None,
    time: Annotated[str | None, typer.Option(help="time limit of a shard, as 4:00:00; when it is over, the shard is requeued")] = None,
    partition: Annotated[str | None, typer.Option(help="partition of the cluster")] = None,
    sbatch: Annotated[list[str] | None, typer.Option(help="a further option of sbatch, as --account=lab; may be repeated")] = None,
    out: Annotated[Path | None, typer.Option(help="folder that all nodes see; default runs/SUITE-DATE")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the scripts; write and submit nothing")] = False,
) -> None:
    """Run a suite as an array job: a shard a task, each alone on its node, and a last job that merges and reports."""
    from mann_bench.run.slurm import ArrayJob, require_sbatch

    if scheduler not in SCHEDULERS:
        raise UsageError(f"submit: expected slurm, got {scheduler!r}")
    if time is not None and not TIME.fullmatch(time):
        raise UsageError(f"--time: expected a limit as sbatch takes it, as 90, 4:00:00 or 2-00:00:00, got {time!r}")
    for option in sbatch or []:
        if not option.startswith("-") or "\n" in option:
            raise UsageError(f"--sbatch: expected an option of sbatch, as --account=lab, got {option!r}")
    if partition is not None and not re.fullmatch(r"[\w.,-]+", partition):
        raise UsageError(f"--partition: expected a name, got {partition!r}")
    planned = options.load(suite)  # what is wrong with the suite is said now, not by each task
    source = str(Path(suite).resolve()) if suite.endswith(".toml") else suite
    command = ["run", source, *arguments_of(options)]
    settings = [*([f"--gpus={gpus}"] if gpus else []), *([f"--time={time}"] if time else [])]
    others = [*([f"--partition={partition}"] if partition else []), *(sbatch or [])]
    name = plain_name(planned.name)
    if dry_run:
        for script, text in ArrayJob(name, command, array, out or Path("runs") / f"{name}-DATE", settings, others).scripts.items():
            print(f"# {script}\n{text}")
        return
    require_sbatch()
    job = ArrayJob(name, command, array, out or new_folder(name), settings, others)
    ids = job.submit()
    tell(f"submitted {array} shards as job {ids[0]}, then merge and report as job {ids[1]}; `squeue --me` shows them")
    print(f"results: {job.out / 'all'}")
    print(f"next:    tail -f {shlex.quote(str(job.out / 'slurm'))}/*.log")


def arguments_of(options: SuiteOptions) -> list[str]:
    """The options as arguments of a command line."""
    arguments = []
    for field in fields(options):
        value = getattr(options, field.name)
        for text in value if isinstance(value, list) else [] if value is None else [value]:
            arguments.append(f"--{field.name}={text}")
    return arguments
