"""`mann-bench profile`: time and memory of one case by step, phase and cause."""

from pathlib import Path
from typing import Annotated

import typer

from mann_bench.cli.console import tell, writing_to
from mann_bench.cli.options import AsJson, Device, Mode, Seed, Threads, new_folder, one_case
from mann_bench.data.errors import UsageError
from mann_bench.data.registry import GRAPH
from mann_bench.data.text import shortened, visible
from mann_bench.data.units import parse_size


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
    from mann_bench.reports.profile.page import sentences, write_profile_page
    from mann_bench.run.profiling import profile_in_worker
    from mann_bench.run.replies import Failure

    fields = {"steps": steps, "batch": batch, "kernels": kernels, "index": index, "fill": fill}
    case = one_case("profile", model, slots, mode, device, threads, seed, **fields)
    if case.variant == GRAPH:
        raise UsageError(f"profile: {model} replays a pass as one launch, which shows no steps or phases; use {case.model}")
    memory_bytes = parse_size(memory)
    folder = out or new_folder(f"profile-{case.model}")
    with writing_to(folder):
        profile = profile_in_worker(case, folder, memory_bytes, seconds)
        if isinstance(profile, Failure):
            tell(f"{profile.status}: {shortened(profile.reason)}")
            raise typer.Exit(1)
        page = write_profile_page(profile, folder)
    if as_json:
        print(profile.model_dump_json(by_alias=True))
        return
    print("\n".join(map(visible, sentences(profile))))
    print(f"page: {page}")
