"""`mann-bench learn`: train models on a task, or make a study."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import psutil
import typer

from mann_bench.cli.console import console, stoppable, summarize, tell, writing_to
from mann_bench.cli.options import (
    AsJson,
    Device,
    ModelOptions,
    OwnModel,
    new_folder,
    refuse_own,
    require_memory,
    split_names,
    warn_of_threads,
)
from mann_bench.data.errors import UsageError, did_you_mean
from mann_bench.data.option_axes import lacking_sentences, parse_texts
from mann_bench.data.registry import split_variant
from mann_bench.data.shards import Shard, parse_shard
from mann_bench.data.units import parse_seconds, parse_size
from mann_bench.learn.record import LearningCase, LearningOptions, Settings
from mann_bench.learn.study import load_study, study_names
from mann_bench.machine.control_groups import memory_limit_bytes
from mann_bench.machine.devices import check_device
from mann_bench.machine.processor import usable_threads

if TYPE_CHECKING:
    from mann_bench.learn.processes import Place

STUDY_OPTIONS = (  # the command's options for a study; all others are settings, which its file has
    *("task", "data", "device", "threads", "memory", "jobs"),
    *("checkpoint_seconds", "evaluation_seconds", "out", "resume", "shard", "chosen", "on", "as_json"),
)
MEMORY_SHARE = 0.8  # part of the machine's memory that the runs share evenly, one run per processor


def learn(
    context: typer.Context,
    task: Annotated[
        str,
        typer.Argument(
            metavar="STUDY|TASK",
            help="a study: a FILE.toml or a shipped one (`mann-bench list studies`); or a task: copy, repeat-copy, recall, item-recall, "
            "priority-sort, omniglot, babi, package.module:Class",
        ),
    ],
    models: Annotated[str, typer.Option(help="comma-separated; a variant as ntm-checkpointed")] = "sam,dam,ntm,lstm",
    model: OwnModel = None,
    seeds: Annotated[int, typer.Option(min=1, help="runs of each model, with seeds counted from --first-seed")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="the lowest seed")] = 0,
    budget: Annotated[str | None, typer.Option(help="training time of each run, as 10m or 1h; 5m if no --sequences are given")] = None,
    sequences: Annotated[str | None, typer.Option(help="sequences of each run, as 100k")] = None,
    data: Annotated[Path | None, typer.Option(help="* folder or archive of Omniglot or bAbI, as distributed")] = None,
    task_option: Annotated[list[str] | None, typer.Option(help="of the task, as value_bits=48; may be repeated")] = None,
    option: ModelOptions = None,
    levels: Annotated[str | None, typer.Option(help="levels trained on, as 1-20; default the paper's")] = None,
    curriculum: Annotated[str | None, typer.Option(help="none, or exponential: level ~ U(1, h), h doubles")] = None,
    curriculum_threshold: Annotated[float | None, typer.Option(help="mean loss, in bits a bit, under which h doubles")] = None,
    patience: Annotated[int | None, typer.Option(min=1, help="batches of that mean")] = None,
    first_level: Annotated[int | None, typer.Option(min=1, help="h at the start")] = None,
    goal: Annotated[float | None, typer.Option(help="mean loss that counts as learned")] = None,
    past_goal: Annotated[bool, typer.Option("--past-goal", help="train on when the goal is reached")] = False,
    slots: Annotated[str | None, typer.Option(help="N, as 1M; default enough for all that a sequence writes")] = None,
    equal_memory: Annotated[bool, typer.Option("--equal-memory", help="give the others as many slots as fit SAM's bytes")] = False,
    word_size: Annotated[int | None, typer.Option(min=1, help="W")] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="R")] = None,
    reads: Annotated[int | None, typer.Option(min=1, help="K, rows a sparse head reads")] = None,
    hidden: Annotated[int | None, typer.Option(min=1, help="H, LSTM units of the controller")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="B")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam or rmsprop")] = None,
    learning_rate: Annotated[str | None, typer.Option(help="as 1e-3, or for some models apart: 1e-3,ntm=1e-4")] = None,
    momentum: Annotated[float | None, typer.Option(help="of rmsprop; adam's beta_1")] = None,
    clip: Annotated[float | None, typer.Option(help="largest norm of the gradient")] = None,
    kernels: Annotated[str | None, typer.Option(help="auto, native or torch")] = None,
    index: Annotated[str | None, typer.Option(help="the index of a sparse model; default live")] = None,
    device: Device = None,
    threads: Annotated[int, typer.Option(min=1, help="* CPU threads of a run")] = 1,
    memory: Annotated[str | None, typer.Option(help="* bytes a run may take; default its share of the machine's")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="* runs at a time; default as many as processors hold")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(min=0.1, help="* seconds between checkpoints")] = 60.0,
    evaluation_seconds: Annotated[float, typer.Option(min=0, help="* seconds after training for each level that is evaluated")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="* folder for the results; default runs/learn-NAME-DATE")] = None,
    resume: Annotated[
        bool, typer.Option(help="* go on with the runs in --out, from their checkpoints; a task's also to larger limits")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="N/COUNT", help="* only this part of the runs, as 3/16; `mann-bench merge` joins the folders")
    ] = None,
    chosen: Annotated[
        Path | None, typer.Option(help="* of a study: folder that has all runs that choose, merged; a shard makes its part of the others")
    ] = None,
    on: Annotated[str | None, typer.Option(metavar="ray[://HOST:PORT]", help="* train on the hosts of a Ray cluster")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a study, or train models on one task: curves, levels and held-out errors. What finished is stored, a stopped run goes on.

    A study's file says what is trained, with which seeds, and how each model's rate is chosen. It takes the options marked * and --device.
    """
    # Options named as a field of `LearningOptions` are taken from `context.params`; the others are parsed below.
    if resume and out is None:
        raise UsageError("--resume: expected --out FOLDER of the runs to go on with, got none")
    part = parse_shard(shard) if shard is not None else None
    for name, value in (("--shard", shard), ("--on", on)):
        if value is not None:
            require_memory(name, memory)
    if budget is None and sequences is None:
        budget = "5m"
    check_device(device or "cpu")
    memory_bytes = parse_size(memory) if memory is not None else share_of_memory()
    times = checkpoint_seconds, evaluation_seconds
    if task.endswith(".toml") or task in study_names():
        refuse_options(context)
        machine = {"device": device or "cpu", "threads": threads, "memory_bytes": memory_bytes}
        learn_study(task, data, out, machine, times, jobs, part, chosen, on, resume=resume, as_json=as_json)
    if chosen is not None:
        raise UsageError("--chosen: expected a study, whose runs choose, got a task; leave --chosen out")
    from mann_bench.learn.division import part_of_runs
    from mann_bench.learn.memory_size import too_small  # imports torch
    from mann_bench.learn.plan import plan, with_equal_memory
    from mann_bench.learn.session import LearningSession, describe
    from mann_bench.suites.tasks import TASKS, find_task

    if ":" not in task and task not in TASKS and (near := did_you_mean(task, study_names())):
        raise UsageError(
            f"learn: expected a task ({', '.join(TASKS)}), a study ({', '.join(study_names())}) or a FILE.toml, got {task!r}{near}"
        )
    options = parse_options("--task-option", task_option or [])
    task_object = find_task(task, data, options)
    names = [*split_names(models), *(model or [])]
    if not names:
        raise UsageError("--models: expected at least one, got none")
    warn_of_threads(threads)
    axes = parse_texts(option or [])
    for note in lacking_sentences(axes.check("--option", names), [split_variant(name)[0] for name in names]):
        tell(f"note: {note}")
    parsed: Settings = {
        "task_options": options,
        "options": axes,
        "levels": parse_levels(levels) if levels is not None else None,
        "stop_at_goal": not past_goal,
        "sequences": parse_size(sequences) if sequences is not None else None,
        "seconds": parse_seconds(budget) if budget is not None else None,
        "slots": parse_size(slots) if slots is not None else None,
        "learning_rates": parse_rates(learning_rate, names) if learning_rate is not None else {},
        "memory_bytes": memory_bytes,
    }
    unchanged = {field.name: context.params[field.name] for field in fields(LearningOptions) if field.name not in parsed}
    cases = plan(task, task_object, names, range(first_seed, first_seed + seeds), LearningOptions(**unchanged, **parsed))
    refuse_own(cases)
    if equal_memory:
        cases, notes = with_equal_memory(cases, task_object)
        for note in notes:
            tell(f"equal memory: {note}")
    for warning in dict.fromkeys(filter(None, (too_small(case, task_object) for case in cases))):
        tell(f"warning: {warning}")
    to_run = part_of_runs(cases, part)
    description = describe(cases, data, part)
    with place_for(cases, jobs, threads, on) as place:
        folder = out or new_folder(f"learn-{task}")
        with writing_to(folder):
            session = LearningSession(
                to_run, data, folder, resume=resume, every_s=times[0], evaluation_s=times[1], console=console, description=description
            )
        with stoppable(folder):
            statuses = session.run(place)
    end(folder, statuses, as_json, empty=not to_run)


def refuse_options(context: typer.Context) -> None:
    """Raise UsageError if the command of a study has options that belong into its file."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in STUDY_OPTIONS and source is not None and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option}: expected it in the study's file, got an option; copy the file and change it there")


def learn_study(
    name: str,
    data: Path | None,
    out: Path | None,
    machine: Settings,
    times: tuple[float, float],
    jobs: int | None,
    shard: Shard | None,
    chosen: Path | None,
    on: str | None,
    *,
    resume: bool,
    as_json: bool,
) -> NoReturn:
    """Make the runs of a study, then end the command."""
    study = load_study(name)
    warn_of_threads(machine["threads"])
    from mann_bench.learn.configurations import plan_study  # imports torch
    from mann_bench.learn.study_session import StudySession

    plan = plan_study(study, name, data, machine)
    refuse_own([*plan.cases.values()])
    for note in plan.notes:
        tell(f"equal memory: {note}")
    for warning in plan.warnings:
        tell(f"warning: {warning}")
    if chosen is not None and shard is None:
        raise UsageError("--chosen: expected it with --shard, got it alone; `--out FOLDER --resume` goes on with a merged folder by itself")
    seconds = {"every_s": times[0], "evaluation_s": times[1]}
    with place_for([*plan.cases.values()], jobs, machine["threads"], on) as place:
        folder = out or new_folder(f"learn-{study.name}")
        with writing_to(folder):
            session = StudySession(plan, data, folder, resume=resume, console=console, shard=shard, chosen=chosen, **seconds)
        with stoppable(folder):
            statuses = session.run(place)
    if shard is not None and session.waits:
        tell(
            f"the runs that are reported wait for the choice: when all {shard.count} shards have ended, merge them into CHOSEN; then "
            "call each with --chosen CHOSEN and another --out, or `learn` without --shard and with --out CHOSEN --resume"
        )
    end(folder, statuses, as_json, empty=shard is not None and not statuses.total())


@contextmanager
def place_for(cases: Sequence[LearningCase], jobs: int | None, threads: int, on: str | None) -> Iterator["Place"]:
    """This machine, or while a connection lasts the hosts of the Ray cluster `on`.

    Raises:
        UsageError: there is no cluster, or none of its hosts has room for such a run.
    """
    if on is None:
        from mann_bench.learn.processes import ThisMachine

        yield ThisMachine(jobs or max(1, usable_threads() // threads))
        return
    from mann_bench.learn.on_ray import ADVICE, RayHosts, needs_of
    from mann_bench.run.ray_cluster import RayCluster

    cluster, needs = RayCluster(on), needs_of(cases)
    cluster.require(needs, ADVICE)
    try:
        yield RayHosts(cluster, needs, jobs)
    finally:
        cluster.close()


def end(folder: Path, statuses: Counter[str], as_json: bool, *, empty: bool = False) -> NoReturn:
    """Print the summary; the exit code is 1 if a run diverged or failed, or none finished, unless there was none to make (`empty`)."""
    summarize("runs", folder / "learning.jsonl", statuses, as_json)
    failed = statuses["error"] + statuses["diverged"]
    raise typer.Exit(1 if failed or not (empty or statuses["ok"] + statuses["budget"]) else 0)


def share_of_memory() -> int:
    """Bytes that a run may take so that one run per processor fits this machine or its control group; whole MiB."""
    total = min(psutil.virtual_memory().total, memory_limit_bytes() or 2**62)
    return int(MEMORY_SHARE * total / usable_threads()) // 2**20 * 2**20


def parse_options(option: str, texts: list[str]) -> dict[str, int]:
    """`["value_bits=48"]` -> {"value_bits": 48}."""
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value.strip().lstrip("-").isdigit():
            raise UsageError(f"{option}: expected NAME=WHOLE_NUMBER, as value_bits=48, got {text!r}")
        values[name.strip()] = int(value)
    return values


def parse_levels(text: str) -> tuple[int, int]:
    """`1-20` -> (1, 20), `7` -> (7, 7)."""
    low, dash, high = text.partition("-")
    if not low.strip().isdigit() or (dash and not high.strip().isdigit()):
        raise UsageError(f"--levels: expected LOWEST-HIGHEST, as 1-20, got {text!r}")
    return int(low), int(high) if dash else int(low)


def parse_rates(text: str, models: list[str]) -> dict[str, float]:
    """`1e-3,ntm=1e-4` -> {"": 1e-3, "ntm": 1e-4}: the rate without a name is for the models that have none of their own."""
    rates: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().rpartition("=")
        try:
            rates[name.strip()] = float(value)
        except ValueError as error:
            raise UsageError(f"--learning-rate: expected a number or MODEL=NUMBER, as 1e-3,ntm=1e-4, got {part!r}") from error
        if name and name.strip() not in models:
            raise UsageError(f"--learning-rate: expected models among {', '.join(models)}, got {name.strip()!r}")
    return rates
