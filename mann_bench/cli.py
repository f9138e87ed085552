"""The command line.

    mann-bench run quick                      sweep, measure, store; ends with the folder and the next command
    mann-bench run my.toml --models sam,ntm --slots 1k,64k --out runs/mine
    mann-bench run quick --out runs/mine --resume
    mann-bench plan scaling                   the cases, predicted bytes and time
    mann-bench list models|suites
    mann-bench doctor                         what this machine can do
    mann-bench doctor --selftest              its ceilings, and whether planted faults are found
    mann-bench largest sam ntm --memory 4G --seconds 60   the largest N that fits, predicted and measured
    mann-bench profile sam --slots 1M --steps 100   time and memory of every step and phase, as a page, CSV and traces
    mann-bench learn copy                     train models on a task: curves, levels, held-out errors
    mann-bench report runs/mine               one HTML page, Markdown, CSV, plots
    mann-bench claims runs/paper              the paper's claims against a run of suite paper
    mann-bench compare runs/old runs/new      each case: FASTER, SLOWER, SAME or INCONCLUSIVE
    mann-bench compare main . --suite quick   the same for two states of the code, run side by side

Sizes are written as people write them: 64k = 64 * 2^10, 1M = 2^20. Exit code 0: done; 1: something measured failed; 2: bad usage.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mann_bench.errors import DISK_FULL, UsageError
from mann_bench.sizes import format_bytes, format_slots, parse_size
from mann_bench.suite import Suite, load_suite, select, suite_names

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=(__doc__ or "").replace("\n", "\n\n", 1),
    rich_markup_mode=None,
)
console = Console(stderr=True)

SuiteName = Annotated[str, typer.Argument(metavar="SUITE|FILE.toml", help="a shipped suite (`mann-bench list suites`) or a TOML file")]
Models = Annotated[str, typer.Option(help="only these, comma-separated; a variant as ntm-checkpointed")]
OwnModel = Annotated[list[str] | None, typer.Option(help="a model of your own, package.module:factory; may be repeated")]
Slots = Annotated[str, typer.Option(help="memory sizes instead of the suite's, as 1k,64k,1M (k = 2^10, M = 2^20)")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads a case may use")]
Mode = Annotated[str | None, typer.Option(help="train (forward and backward) or infer")]
Seed = Annotated[int | None, typer.Option(help="seed of parameters, memory and inputs")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a program to read")]


@app.command()
def run(
    suite: SuiteName,
    models: Models = "",
    model: OwnModel = None,
    slots: Slots = "",
    device: Device = None,
    threads: Threads = None,
    mode: Mode = None,
    seed: Seed = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="turns in which the cases of a comparison are timed")] = None,
    timing_seconds: Annotated[float | None, typer.Option(min=0.01, help="seconds of samples of one case, over all rounds")] = None,
    cache: Annotated[str | None, typer.Option(help="warm, or flushed before each pass")] = None,
    budget_seconds: Annotated[float | None, typer.Option(min=0.1, help="seconds one case may take, all in")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the results; default runs/SUITE-DATE")] = None,
    resume: Annotated[bool, typer.Option(help="go on with the run in --out: only what is missing is run")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a suite; every finished case is stored at once and survives whatever comes after it."""
    chosen = choose(suite, models, model, slots, device, threads, mode, seed)
    if cache not in (None, "warm", "flushed"):
        raise UsageError(f"--cache: expected warm or flushed, got {cache!r}")
    asked = {"rounds": rounds, "timing_seconds": timing_seconds, "cache": cache, "case_seconds": budget_seconds}
    budget = chosen.budget.model_copy(update={name: value for name, value in asked.items() if value is not None})
    chosen = chosen.model_copy(update={"budget": budget})
    if resume and out is None:
        raise UsageError("--resume: expected --out FOLDER of the run to go on with, got none")
    from mann_bench.session import run_and_store  # imports torch, which takes seconds: not for every command

    folder = out or Path("runs") / f"{chosen.name}-{datetime.now():%Y%m%d-%H%M%S}"
    with stoppable(folder):
        statuses = run_and_store(chosen, folder, resume=resume, console=console)
    summarize("cases", folder / "results.jsonl", statuses, as_json)
    failed = statuses["error"] + statuses["unverified"]
    raise typer.Exit(1 if failed or not statuses["ok"] else 0)


@contextmanager
def stoppable(folder: Path) -> Iterator[None]:
    """A run that Ctrl-C or a full disk ends with a sentence on how to go on."""
    again = f"Go on with the same command and: --out {folder} --resume"
    try:
        yield
    except KeyboardInterrupt:
        console.print(f"stopped; what finished is kept. {again}", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        said = f"error: {folder}: {os.strerror(error.errno)}; what finished is kept. Free some space. {again}"
        console.print(said, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None


def summarize(what: str, results: Path, statuses: Counter[str], as_json: bool) -> None:
    """Say what came of a run, where it is and what to do next."""
    if as_json:
        print(json.dumps({"out": str(results.parent), "results": str(results), "statuses": dict(statuses)}))
        return
    print(f"{sum(statuses.values())} {what}: " + ", ".join(f"{count} {status}" for status, count in statuses.most_common()))
    print(f"results: {results}")
    print(f"next:    mann-bench report {results.parent}")


@app.command()
def plan(
    suite: SuiteName,
    models: Models = "",
    model: OwnModel = None,
    slots: Slots = "",
    device: Device = None,
    threads: Threads = None,
    mode: Mode = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Show the cases of a suite with predicted bytes and time; nothing is run."""
    chosen = choose(suite, models, model, slots, device, threads, mode, seed)
    from mann_bench.plan import predict

    predictions = [predict(case, chosen.budget) for case in chosen.cases]
    if as_json:
        rows = [
            {
                "case_id": c.case_id,
                "case": c.model_dump(),
                "bytes": p.total_bytes,
                "bytes_by_cause": p.bytes_by_cause,
                "seconds": round(p.seconds, 1),
            }
            for c, p in zip(chosen.cases, predictions, strict=True)
        ]
        print(json.dumps(rows))
        return
    table = Table("model", "variant", "kernels", "index", "N", "B", "T", "fill", "mode", "device", "predicted", "seconds", "")
    for case, prediction in zip(chosen.cases, predictions, strict=True):
        size_bytes = prediction.total_bytes
        over = "over budget" if size_bytes is not None and size_bytes > chosen.budget.memory else ""
        shape = (format_slots(case.slots), str(case.batch), str(case.steps), case.fill, case.mode, case.device)
        predicted = format_bytes(size_bytes) if size_bytes is not None else "unknown"
        table.add_row(case.model, case.variant, case.kernels, case.index, *shape, predicted, f"{prediction.seconds:.0f}", over)
    wide_console().print(table)
    total_s = sum(prediction.seconds for prediction in predictions)
    budget = format_bytes(chosen.budget.memory)
    print(f"{len(chosen.cases)} cases, about {total_s / 60:.0f} min, within a factor of three; memory budget {budget} a case")


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="models|suites")] = "models",
    as_json: AsJson = False,
) -> None:
    """List the models (source, cost per step, options, parameters) or the suites."""
    if what not in ("models", "suites"):
        raise UsageError(f"list: expected models or suites, got {what!r}")
    from mann_bench.registry import describe_models

    rows: list[dict[str, Any]] = (
        describe_models()
        if what == "models"
        else [{"name": s.name, "cases": len(s.cases), "description": s.description} for s in map(load_suite, suite_names())]
    )
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(*rows[0], show_lines=what == "models")
    for row in rows:
        table.add_row(*(", ".join(value) if isinstance(value, list) else str(value) for value in row.values()))
    wide_console().print(table)


@app.command()
def doctor(
    selftest: Annotated[bool, typer.Option("--selftest", help="measure this machine's ceilings and look for planted faults")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what this machine has, what is missing and what that means."""
    from mann_bench.doctor import examine

    if selftest:
        from mann_bench.selftest import selftest as examine
    findings = examine()
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings]))
    else:
        for finding in findings:
            print(f"{finding.state:8} {finding.part:16} {finding.detail}")
    raise typer.Exit(1 if any(finding.state == "failed" for finding in findings) else 0)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders written by `mann-bench run` or `learn`")],
    out: Annotated[Path | None, typer.Option(help="folder for the report; default RUN/report")] = None,
) -> None:
    """Write one self-contained HTML page, Markdown, CSV and plots from stored results."""
    from mann_bench.reports import write_reports

    for page in write_reports(runs, out or runs[0] / "report"):
        print(f"report: {page}")


@app.command()
def compare(
    before: Annotated[str, typer.Argument(metavar="A", help="a run folder; with --suite a git ref or a folder with a checkout")],
    after: Annotated[str, typer.Argument(metavar="B", help="the same, to be judged against A")],
    suite: Annotated[str, typer.Option(help="run this suite (or FILE.toml) at both git refs, interleaved; nothing is installed")] = "",
    models: Models = "",
    model: OwnModel = None,
    slots: Slots = "",
    device: Device = None,
    threads: Threads = None,
    mode: Mode = None,
    seed: Seed = None,
    processes: Annotated[
        int, typer.Option(min=1, help="with --suite: how often a case is run, each time in a new process, until its ratio is known well")
    ] = 6,
    out: Annotated[Path | None, typer.Option(help="with --suite: folder for both runs; default runs/compare-DATE")] = None,
    threshold: Annotated[str, typer.Option(help="a smaller change of time is the SAME")] = "5%",
    fail_on: Annotated[list[str] | None, typer.Option(help="exit with 1 on slower:5% or larger:1%; may be repeated")] = None,
    anyway: Annotated[bool, typer.Option(help="compare runs of different machines")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge every case of B against A by its raw samples, and its memory to the byte."""
    from mann_bench.reports import compare as comparing

    limits = comparing.parse_limits(fail_on or [])
    least = comparing.parse_percent("--threshold", threshold)
    folders = (Path(before), Path(after))
    if suite:
        chosen = choose(suite, models, model, slots, device, threads, mode, seed)
        from mann_bench.checkouts import checked_out, run_at_both

        target = out or Path("runs") / f"compare-{datetime.now():%Y%m%d-%H%M%S}"
        with checked_out(before) as old, checked_out(after) as new:
            folders = run_at_both(
                chosen,
                (old, new),
                target,
                processes,
                lambda a, b: comparing.known_well(a, b, least),
                lambda text: console.print(text, markup=False, soft_wrap=True),
            )
    elif not all(folder.exists() for folder in folders):
        missing = next(folder for folder in folders if not folder.exists())
        raise UsageError(f"compare: expected two run folders, got {str(missing)!r}, which is none; for two git refs add --suite quick")
    comparison = comparing.compare_runs(*folders, anyway=anyway)
    for warning in comparison.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    broken = comparing.violations(comparison.cases, limits)
    if as_json:
        rows = [comparing.to_json(one, least) for one in comparison.cases]
        print(json.dumps({"a": str(folders[0]), "b": str(folders[1]), "warnings": comparison.warnings, "cases": rows, "failed": broken}))
    else:
        table = Table("case", "A ms/step", "B ms/step", "B/A", "95% interval", "p", "verdict", "memory")
        for one in comparison.cases:
            table.add_row(*comparing.row(one, least))
        wide_console().print(table)
        print(comparing.summary(comparison.cases, least))
        if suite:
            print(f"results: {folders[0]} {folders[1]}")
    for sentence in broken:
        print(f"failed: {sentence}", file=sys.stderr)
    raise typer.Exit(1 if broken else 0)


@app.command()
def claims(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of `mann-bench run`, best of suite paper, and of `learn`")],
    as_json: AsJson = False,
) -> None:
    """Judge each claim of Rae et al. 2016 by the results: reproduced, exceeded, not reproduced, not run."""
    from mann_bench.reports import claims as claiming
    from mann_bench.reports import sorted_runs
    from mann_bench.reports.frame import load_frame
    from mann_bench.reports.learning import load_experiments
    from mann_bench.reports.learning_claims import judge_learning

    measured, trained = sorted_runs(runs)
    judged = claiming.judge_claims(load_frame(measured) if measured else None, judge_learning(load_experiments(trained)))
    if as_json:
        print(json.dumps([claiming.to_json(one) for one in judged]))
        return
    for one in judged:
        print(f"{one.verdict.upper():15} {one.claim.says} ({one.claim.source})")
        if one.value is not None:
            print(f"{'':15} paper {one.claim.paper_text}, here {one.ours_text}; {one.how}")
        for remark in one.remarks:
            print(f"{'':15} - {remark}")
        if one.case_ids:
            print(f"{'':15} cases {' '.join(one.case_ids)}")
        print()


def choose(
    suite: str, models: str, own: list[str] | None, slots: str, device: str | None, threads: int | None, mode: str | None, seed: int | None
) -> Suite:
    """The suite as the options change it; UsageError naming the option at fault."""
    from mann_bench.environment import check_device

    if device is not None:
        check_device(device)
    if mode not in (None, "train", "infer"):
        raise UsageError(f"--mode: expected train or infer, got {mode!r}")
    names = [*(name.strip() for name in models.split(",") if name.strip()), *(own or [])]
    sizes = [parse_size(text) for text in slots.split(",") if text.strip()]
    changes = {"device": device, "threads": threads, "mode": mode, "seed": seed}
    return select(load_suite(suite), models=names, slots=sizes, changes={key: value for key, value in changes.items() if value is not None})


def wide_console() -> Console:
    """Standard output; piped, wide enough that no column is cut."""
    return Console(width=None if sys.stdout.isatty() else 200)


def main() -> None:
    """Entry point: bad input is told in a sentence and exits with 2."""
    sys.path.append(os.getcwd())  # `--model my_module:factory` finds a file beside the user
    import mann_bench.cli_cases
    import mann_bench.cli_learn  # noqa: F401  both register their commands

    try:
        app()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
