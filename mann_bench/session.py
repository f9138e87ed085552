"""One `mann-bench run`: opens the folder, runs what is missing, shows progress."""

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mann_bench.environment import fingerprint
from mann_bench.result import SCHEMA, Result
from mann_bench.runner import label, now, run_suite
from mann_bench.store import RunFolder, load_results
from mann_bench.suite import Suite


def describe(suite: Suite) -> dict[str, Any]:
    """What `run.json` holds: the suite as written, its cases in order, and where and when they ran."""
    return {
        "schema": SCHEMA,
        "suite": suite.name,
        "suite_text": suite.text,
        "budget": suite.budget.model_dump(),
        "case_ids": [case.case_id for case in suite.cases],
        "started_at": now(),
        "environment": fingerprint(),
    }


def run_and_store(suite: Suite, path: Path, *, resume: bool, console: Console) -> Counter[str]:
    """Run the suite into a folder; how many cases ended with each status, earlier ones included."""
    folder = RunFolder(path, describe(suite), resume=resume)
    try:
        earlier = load_results(path) if folder.finished else []
        statuses = Counter(result.status for result in earlier)
        if earlier:
            console.print(f"{len(earlier)} of {len(suite.cases)} cases are there already", markup=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        with bar or nullcontext():
            task = bar.add_task("starting", total=len(suite.cases), completed=len(earlier)) if bar else None
            for result in run_suite(
                suite, folder, earlier, lambda text: bar.update(task, description=text) if bar and task is not None else None
            ):
                statuses[result.status] += 1
                if bar and task is not None:
                    bar.advance(task)
                console.print(f"[{sum(statuses.values())}/{len(suite.cases)}] {line(result)}", markup=False, soft_wrap=True)
    finally:
        folder.close()
    return Counter({str(status): count for status, count in statuses.items()})


def line(result: Result) -> str:
    """A result in one line."""
    if result.time is None or result.memory is None:
        return f"{label(result.case)}: {result.status}: {result.reason}"
    step = result.time.step_ms
    half_width = (step.ci_high - step.ci_low) / 2 / step.median
    told = f"; {result.reason}" if result.reason else ""
    return f"{label(result.case)}: {step.median:.3g} ms/step ±{half_width:.0%}, {result.memory.bytes_per_step:,.0f} bytes/step{told}"
