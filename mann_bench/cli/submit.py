"""`mann-bench submit`: hand a suite or a study to a cluster's scheduler."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mann_bench.cli.console import tell
from mann_bench.cli.options import SuiteOptions, complete_suite, new_folder, plain_name, require_memory
from mann_bench.data.errors import UsageError
from mann_bench.data.toml_files import load_text, parse_toml
from mann_bench.data.units import parse_size
from mann_bench.learn.study import load_study, study_names
from mann_bench.machine.devices import check_device

if TYPE_CHECKING:
    from mann_bench.run.slurm import Round

SCHEDULERS = ("slurm",)
TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}")  # as sbatch takes it: minutes, or days-hours:minutes:seconds


def submit(
    scheduler: Annotated[str, typer.Argument(metavar="slurm", help="the scheduler")],
    suite: Annotated[
        str,
        typer.Argument(
            metavar="SUITE|STUDY|FILE.toml",
            help="a shipped suite or study (`mann-bench list suites`, `list studies`), or a TOML file",
            autocompletion=complete_suite,
        ),
    ],
    options: SuiteOptions,
    array: Annotated[int, typer.Option(min=1, max=10_000, help="shards; more than nodes lets nodes that come later help")] = 8,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs of a shard")] = None,
    time: Annotated[str | None, typer.Option(help="time limit of a shard, as 4:00:00; when it is over, the shard is requeued")] = None,
    partition: Annotated[str | None, typer.Option(help="partition of the cluster")] = None,
    sbatch: Annotated[list[str] | None, typer.Option(help="a further option of sbatch, as --account=lab; may be repeated")] = None,
    memory: Annotated[str | None, typer.Option(help="of a study: bytes a training run may take, as 2G")] = None,
    data: Annotated[Path | None, typer.Option(help="of a study: folder or archive of Omniglot or bAbI, that all nodes see")] = None,
    out: Annotated[Path | None, typer.Option(help="folder that all nodes see; default runs/NAME-DATE")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the scripts; write and submit nothing")] = False,
) -> None:
    """Run a suite or a study as array jobs: a shard a task, each alone on its node, and a last job that merges and reports."""
    from mann_bench.run.slurm import ONE_ROUND, ArrayJob, require_sbatch

    if scheduler not in SCHEDULERS:
        raise UsageError(f"submit: expected slurm, got {scheduler!r}")
    if time is not None and not TIME.fullmatch(time):
        raise UsageError(f"--time: expected a limit as sbatch takes it, as 90, 4:00:00 or 2-00:00:00, got {time!r}")
    for option in sbatch or []:
        if not option.startswith("-") or "\n" in option:
            raise UsageError(f"--sbatch: expected an option of sbatch, as --account=lab, got {option!r}")
    if partition is not None and not re.fullmatch(r"[\w.,-]+", partition):
        raise UsageError(f"--partition: expected a name, got {partition!r}")
    source = str(Path(suite).resolve()) if suite.endswith(".toml") else suite
    if is_study(suite):
        name, learn, rounds = study_job(suite, options, memory, data)
        command = ["learn", source, *learn]
    else:
        if given := [option for option, value in (("--memory", memory), ("--data", data)) if value is not None]:
            raise UsageError(f"{given[0]}: expected it with a study, got the suite {suite}; leave it out")
        name, rounds = plain_name(options.load(suite).name), ONE_ROUND  # what is wrong with the suite is said now, not by each task
        command = ["run", source, *arguments_of(options)]
    settings = [*([f"--gpus={gpus}"] if gpus else []), *([f"--time={time}"] if time else [])]
    others = [*([f"--partition={partition}"] if partition else []), *(sbatch or [])]
    if dry_run:
        shown = ArrayJob(name, command, array, out or Path("runs") / f"{name}-DATE", settings, others, rounds)
        for script, text in shown.scripts.items():
            print(f"# {script}\n{text}")
        return
    require_sbatch()
    job = ArrayJob(name, command, array, out or new_folder(name), settings, others, rounds)
    ids = job.submit()
    first = f"{array} shards that choose as job {ids[0]}, their merge as {ids[1]}, then " if len(ids) > 2 else ""
    tell(f"submitted {first}{array} shards as job {ids[-2]}, then merge and report as job {ids[-1]}; `squeue --me` shows them")
    print(f"results: {job.out / 'all'}")
    print(f"next:    tail -f {shlex.quote(str(job.out / 'slurm'))}/*.log")


def is_study(name: str) -> bool:
    """Whether a name or a TOML file is of a study."""
    if name.endswith(".toml"):
        return "task" in parse_toml("suite", load_text("suite or study", name, ""), name)
    return name in study_names()


def study_job(name: str, options: SuiteOptions, memory: str | None, data: Path | None) -> tuple[str, list[str], "Sequence[Round]"]:
    """The name of a study, the options of `learn` that its shards share, and its rounds; UsageError for options that it does not take."""
    from mann_bench.run.slurm import CHOICE_FIRST, ONE_ROUND

    study = load_study(name)
    for field in fields(options):
        if field.name not in ("device", "threads") and getattr(options, field.name) is not None:
            raise UsageError(f"--{field.name}: expected it in the study's file, got an option; copy the file and change it there")
    parse_size(require_memory(f"submit {name}", memory))
    check_device(options.device or "cpu")
    if data is not None and not data.exists():
        raise UsageError(f"--data {data}: expected a folder or an archive, got none there")
    shared = [f"--memory={memory}", *([f"--data={data.resolve()}"] if data is not None else []), *arguments_of(options)]
    return plain_name(study.name), shared, CHOICE_FIRST if study.run_counts()[0] else ONE_ROUND


def arguments_of(options: SuiteOptions) -> list[str]:
    """The options as arguments of a command line."""
    arguments = []
    for field in fields(options):
        value = getattr(options, field.name)
        for text in value if isinstance(value, list) else [] if value is None else [value]:
            arguments.append(f"--{field.name}={text}")
    return arguments
