"""Options that several commands share, and the suite or case they describe."""

from typing import Annotated, Any

import typer
from pydantic import ValidationError

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError, first_error
from mann_bench.data.suite import Suite, load_suite, select
from mann_bench.data.units import parse_size

SuiteName = Annotated[str, typer.Argument(metavar="SUITE|FILE.toml", help="a shipped suite (`mann-bench list suites`) or a TOML file")]
Models = Annotated[str, typer.Option(help="only these, comma-separated; a variant as ntm-checkpointed")]
OwnModel = Annotated[list[str] | None, typer.Option(help="a model of your own, package.module:factory; may be repeated")]
Slots = Annotated[str, typer.Option(help="memory sizes instead of the suite's, as 1k,64k,1M (k = 2^10, M = 2^20)")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads a case may use")]
Mode = Annotated[str | None, typer.Option(help="train (forward and backward) or infer")]
Seed = Annotated[int | None, typer.Option(help="seed of parameters, memory and inputs")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a program to read")]


def choose(
    suite: str, models: str, own: list[str] | None, slots: str, device: str | None, threads: int | None, mode: str | None, seed: int | None
) -> Suite:
    """The suite as the options change it; UsageError naming the option at fault."""
    from mann_bench.machine.environment import check_device

    if device is not None:
        check_device(device)
    if mode not in (None, "train", "infer"):
        raise UsageError(f"--mode: expected train or infer, got {mode!r}")
    names = [*(name.strip() for name in models.split(",") if name.strip()), *(own or [])]
    sizes = [parse_size(text) for text in slots.split(",") if text.strip()]
    changes = {"device": device, "threads": threads, "mode": mode, "seed": seed}
    return select(load_suite(suite), models=names, slots=sizes, changes={key: value for key, value in changes.items() if value is not None})


def one_case(
    suite: str, model: str, slots: str, mode: str | None, device: str | None, threads: int | None, seed: int | None, **fields: Any
) -> Case:
    """The case that the options of a single measurement describe; UsageError naming the option at fault."""
    from mann_bench.data.registry import MODEL_WORKLOAD, find_model, split_variant
    from mann_bench.machine.environment import check_device, usable_threads, why_no_device

    name, variant = split_variant(model)
    if find_model(name).workload != MODEL_WORKLOAD:
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
        raise UsageError(f"--{first_error(error)}") from error
