"""Options that several commands share, and the suite or case that they describe."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from mann_bench.cli.console import tell
from mann_bench.data.case import Case, full_name
from mann_bench.data.errors import UsageError, first_error
from mann_bench.data.option_axes import lacking_sentences, parse_texts, spread
from mann_bench.data.options import Configured
from mann_bench.data.registry import MODEL_WORKLOAD, SHIPPED, check_name, find_model, split_variant
from mann_bench.data.suite import Suite, load_suite, select, suite_names
from mann_bench.data.units import parse_size
from mann_bench.machine.devices import check_device, why_no_device
from mann_bench.machine.processor import usable_threads


def complete_suite(typed: str) -> list[str]:
    """Shell completion: shipped suites, and folders and TOML files that begin with what is typed."""
    folder = Path(typed if typed.endswith("/") else Path(typed).parent)
    files = folder.iterdir() if folder.is_dir() else ()
    return [*suite_names(), *(f"{path}/" if path.is_dir() else str(path) for path in files if path.is_dir() or path.suffix == ".toml")]


def complete_model(typed: str) -> list[str]:
    """Shell completion: the built-in models with their variants, after the last comma of what is typed."""
    before, comma, _ = typed.rpartition(",")
    names = [full_name(entry.name, variant) for entry in SHIPPED.values() for variant in entry.variants]
    return [f"{before}{comma}{name}" for name in names if f"{before}{comma}{name}".startswith(typed)]


SuiteName = Annotated[
    str,
    typer.Argument(
        metavar="SUITE|FILE.toml", help="a shipped suite (`mann-bench list suites`) or a TOML file", autocompletion=complete_suite
    ),
]
OwnModel = Annotated[list[str] | None, typer.Option(help="a model of your own, package.module:factory; may be repeated")]
ModelOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="an option of models (`mann-bench list options`), as erase=always,gated, or of one model, as sam.erase=gated; may be repeated",
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads a case may use")]
Mode = Annotated[str | None, typer.Option(help="train (forward and backward) or infer")]
Seed = Annotated[int | None, typer.Option(help="seed of parameters, memory and inputs")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a program to read")]


@dataclass(frozen=True)
class SuiteOptions:
    """Options that change a suite. A command takes them as one parameter; `expand` makes them options of the command."""

    models: Annotated[
        str | None, typer.Option(help="only these, comma-separated; a variant as ntm-checkpointed", autocompletion=complete_model)
    ] = None
    model: OwnModel = None
    option: ModelOptions = None
    slots: Annotated[str | None, typer.Option(help="memory sizes instead of the suite's, as 1k,64k,1M (k = 2^10, M = 2^20)")] = None
    device: Device = None
    threads: Threads = None
    mode: Mode = None
    seed: Seed = None

    def load(self, suite: str) -> Suite:
        """Load a suite by name or file and apply the options; UsageError naming the option at fault."""
        if self.device is not None:
            check_device(self.device)
        if self.mode not in (None, "train", "infer"):
            raise UsageError(f"--mode: expected train or infer, got {self.mode!r}")
        names = [*split_names(self.models), *(self.model or [])]
        sizes = [parse_size(text) for text in split_names(self.slots)]
        for option, text, values in (("--models", self.models, names), ("--slots", self.slots, sizes)):
            if text is not None and not values:
                raise UsageError(f"{option}: expected at least one, got none; leave the option out to take the suite's")
        warn_of_threads(self.threads)
        changes = {"device": self.device, "threads": self.threads, "mode": self.mode, "seed": self.seed}
        changes = {name: value for name, value in changes.items() if value is not None}
        selected = select(load_suite(suite), models=names, slots=sizes, changes=changes, options=parse_texts(self.option or []))
        refuse_values(selected.cases)
        for note in selected.notes:
            tell(f"note: {note}")
        return selected


UNCHANGED = SuiteOptions()


def expand(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a command whose type is a dataclass by one option per field, for typer to read."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Callable[..., object]] = {}
    for parameter in inspect.signature(command).parameters.values():
        group = parameter.annotation
        if isinstance(group, type) and is_dataclass(group):
            groups[parameter.name] = group
            parameters += inspect.signature(group).parameters.values()
        else:
            parameters.append(parameter)

    @functools.wraps(command)
    def expanded(**values: object) -> None:
        for name, group in groups.items():
            values[name] = group(**{option: values.pop(option) for option in inspect.signature(group).parameters})
        command(**values)

    vars(expanded)["__signature__"] = inspect.Signature(parameters)
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return expanded


def split_names(text: str | None) -> list[str]:
    """Split a comma-separated list: `sam, ntm` -> ["sam", "ntm"]; None holds no names."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def warn_of_threads(threads: int | None) -> None:
    """Warn if this machine has fewer processors than `--threads` asks for."""
    if threads is not None and threads > (usable := usable_threads()):
        tell(f"warning: --threads {threads}: only {usable} processors can be used here; threads that share one wait for each other")


def require_memory(what: str, memory: str | None) -> str:
    """Return `--memory` of training that runs on several hosts; UsageError if it was not given."""
    if memory is None:
        raise UsageError(f"{what}: expected --memory, as 2G, the same on every host, got none; its default is a share of this machine's")
    return memory


def new_folder(name: str) -> Path:
    """Make and return `runs/NAME-DATE`, the folder of a command without --out; a number is added if another command has just made it."""
    stem = f"{plain_name(name)}-{datetime.now():%Y%m%d-%H%M%S}"
    folder, number = Path("runs") / stem, 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
            folder = folder.with_name(f"{stem}-{number}")


def plain_name(name: str) -> str:
    """Return a name, as `package.module:factory`, as one of a file: at most 80 characters that need no quotes."""
    return re.sub(r"[^\w.-]+", "-", name)[:80]


def refuse_values(cases: Iterable[Case]) -> None:
    """Raise UsageError for an option whose value the constructor of its built-in model refuses."""
    configured = {
        case.model_dump_json(exclude={"slots", "batch", "steps", "mode", "seed", "threads"}): case for case in cases if case.options
    }
    if configured:
        from mann_bench.measure.predict import why_not_options  # imports torch

        for case in configured.values():
            if problem := why_not_options(case):
                raise UsageError(problem)


def refuse_own(cases: Sequence[Configured]) -> None:
    """Raise UsageError if a model of the user's that is given options cannot be made with them. A process of its own looks."""
    configured = [case for case in cases if case.options]
    if configured:
        from mann_bench.run.own_models import options_of, why_not_made

        if problems := why_not_made(options_of(configured)):
            raise UsageError("; ".join(problems.values()))


def with_options(cases: Sequence[Case], texts: Sequence[str] | None) -> list[Case]:
    """Give cases the options of `--option`, a case for each combination of their values; UsageError naming what their models refuse."""
    axes = parse_texts(texts or [])
    for note in lacking_sentences(axes.check("--option", [case.model for case in cases]), {case.model for case in cases}):
        tell(f"note: {note}")
    configured = spread(cases, axes)
    refuse_values(configured)
    refuse_own(configured)
    return configured


def one_case(
    suite: str, model: str, slots: str, mode: str | None, device: str | None, threads: int | None, seed: int | None, **fields: object
) -> Case:
    """Return the case that the options of a single measurement describe; UsageError naming the option at fault."""
    check_name(model)
    name, variant = split_variant(model)
    if find_model(name).workload != MODEL_WORKLOAD:
        raise UsageError(f"{suite}: expected a model, got {model!r}; ops and indexes have suites of their own")
    check_device(device or "cpu")
    if missing := why_no_device(device or "cpu"):
        raise UsageError(f"--device: {missing}")
    warn_of_threads(threads)
    fields |= {"mode": mode, "device": device, "seed": seed, "threads": threads or usable_threads()}
    try:
        given = {name: value for name, value in fields.items() if value is not None}
        return Case.model_validate({"suite": suite, "model": name, "variant": variant, "slots": parse_size(slots), **given})
    except ValidationError as error:
        raise UsageError(f"--{first_error(error)}") from error
