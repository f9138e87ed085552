"""`mann-bench profile`: time and memory of a case by step, phase and cause; of several models on one page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mann_bench.cli.console import tell, writing_to
from mann_bench.cli.options import AsJson, Device, Mode, ModelOptions, Seed, Threads, new_folder, one_case, plain_name, with_options
from mann_bench.data.errors import UsageError
from mann_bench.data.registry import GRAPH
from mann_bench.data.text import shortened, visible
from mann_bench.data.units import parse_size

if TYPE_CHECKING:
    from mann_bench.measure.profile import Profile


def profile(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="built-in models or variants (ntm-checkpointed), or package.module:factory; several share a page"
        ),
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
    option: ModelOptions = None,
    seed: Seed = None,
    memory: Annotated[str, typer.Option(help="bytes it may take")] = "16G",
    seconds: Annotated[float, typer.Option(min=1, help="seconds that each may take")] = 600,
    out: Annotated[Path | None, typer.Option(help="new folder for the page; default runs/profile-MODEL-DATE")] = None,
    as_json: AsJson = False,
) -> None:
    """Take cases apart: time and memory of every step and phase, forward and backward, and whose bytes their peaks are."""
    from mann_bench.run.profiling import profile_in_worker
    from mann_bench.run.replies import Failure

    fields = {"steps": steps, "batch": batch, "kernels": kernels, "index": index, "fill": fill}
    cases = with_options([one_case("profile", model, slots, mode, device, threads, seed, **fields) for model in models], option)
    for number, case in enumerate(cases):
        if case.variant == GRAPH:
            raise UsageError(f"profile: {case.name} replays a pass as one launch, which shows no steps or phases; use {case.model}")
        if case in cases[:number]:
            raise UsageError(f"profile: expected each model once, got {case.title} twice; leave the second out")
    memory_bytes = parse_size(memory)
    if out is not None:
        refuse_used(out)
    folder = out or new_folder(f"profile-{'-'.join(case.model for case in cases)}")
    places = [folder] if len(cases) == 1 else [folder / f"{number:02}-{plain_name(case.title)}" for number, case in enumerate(cases, 1)]
    done: list[Profile] = []
    failures: dict[str, str] = {}
    with writing_to(folder):
        for case, place in zip(cases, places, strict=True):
            found = profile_in_worker(case, place, memory_bytes, seconds)
            if isinstance(found, Failure):
                failures[case.title] = f"{found.status}: {found.reason}"
                tell(f"{case.title + ': ' if len(cases) > 1 else ''}{found.status}: {shortened(found.reason)}")
            else:
                done.append(found)
        if not done:
            raise typer.Exit(1)
        from mann_bench.reports.profile.page import sentences, write_profile_page, write_profiles_page
        from mann_bench.reports.profile.profiles import named

        page = write_profile_page(done[0], folder) if len(cases) == 1 else write_profiles_page(named(done), folder, failures=failures)
    if as_json:
        texts = [found.model_dump_json(by_alias=True) for found in done]
        print(texts[0] if len(cases) == 1 else f"[{','.join(texts)}]")
    else:
        for name, found in named(done).items():
            print("\n".join(visible(f"{name}: {line}" if len(cases) > 1 else line) for line in sentences(found)))
        print(f"page: {page}")
    raise typer.Exit(1 if failures else 0)


def refuse_used(out: Path) -> None:
    """Raise UsageError if a folder for a profile holds files already: they would be taken for its own."""
    if out.is_dir() and any(out.iterdir()):
        what = "one with a profile" if (out / "profile.json").exists() else "one that holds files"
        raise UsageError(f"--out {out}: expected a new or empty folder, got {what}; name another, or remove it")
