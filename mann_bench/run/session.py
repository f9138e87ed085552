"""`mann-bench run` and `largest`: open the run folder, run what is missing, show progress."""

import platform
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mann_bench.data.axes import axes_of
from mann_bench.data.case import Case
from mann_bench.data.conditions import RunDescription
from mann_bench.data.fields import Json
from mann_bench.data.labels import Labels
from mann_bench.data.result import SCHEMA, Memory, Result, now
from mann_bench.data.shards import Shard
from mann_bench.data.store import RunFolder
from mann_bench.data.suite import Budget, Suite
from mann_bench.data.text import shortened, visible
from mann_bench.data.units import format_bytes, format_number
from mann_bench.machine.environment import fingerprint
from mann_bench.measure.advice import advise
from mann_bench.measure.predict import predict
from mann_bench.measure.workload import workload_class
from mann_bench.run.largest import Largest, effort, find_largest, measured_probe
from mann_bench.run.runner import Announce, StoppedCurves, precheck, run_suite
from mann_bench.run.time_left import TimeLeft, TimeLeftColumn, repeatedly

Run = Callable[[Suite, RunFolder, Announce], Iterator[Result]]  # stores each result before it is yielded
WIDE = 0.2  # width of an interval, relative to its value, above which a line shows it


def describe(suite: Suite, shard: Shard | None = None) -> RunDescription:
    """The content of `run.json`: the suite as written, the ids of its cases in order, and where and when they, or those of a shard, run."""
    part: RunDescription = {"shard": shard.to_json()} if shard else {}
    return {
        **part,
        "schema": SCHEMA,
        "suite": suite.name,
        "suite_text": suite.text,
        "budget": suite.budget.model_dump(),
        "case_ids": [case.case_id for case in suite.cases],
        "axes": axes_of(suite.cases),
        "started_at": now(),
        "host": platform.node(),
        "environment": fingerprint(),
    }


def open_run(suite: Suite, path: Path, *, resume: bool, shard: Shard | None = None) -> RunFolder:
    """Open the folder of a suite's run or of a shard of it; raises as `RunFolder`."""
    return RunFolder(path, describe(suite, shard), resume=resume)


def run_and_store(suite: Suite, folder: RunFolder, console: Console, run: Run | None = None) -> Counter[str]:
    """Run a suite into its folder and close that; returns how many cases have each status, earlier ones included.

    Args:
        run: measures the cases; by default `run_suite`, on this host.
    """
    labels = Labels(suite.cases)
    try:
        statuses = Counter(result.status for result in folder.records)
        if earlier := len(folder.records):
            console.print(f"{earlier} of {len(suite.cases)} cases are there already")
        time_left = TimeLeft(predicted_seconds(suite, folder.finished))
        left = time_left if earlier < len(suite.cases) else "none left to run"
        console.print(f"suite {suite.name}, {len(suite.cases)} cases, {left}; results: {folder.results_path}", soft_wrap=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeLeftColumn(time_left))
        bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        doing = "starting"

        def tell_time_left() -> None:
            console.print(f"[{sum(statuses.values())}/{len(suite.cases)}] {doing}; {time_left}", soft_wrap=True)

        with bar or repeatedly(tell_time_left):
            task = bar.add_task(doing, total=len(suite.cases), completed=earlier) if bar else None

            def announce(case: Case, text: str) -> None:
                nonlocal doing
                doing = f"{labels(case)}: {text}"
                if bar and task is not None:
                    bar.update(task, description=visible(doing))

            for result in (run or run_suite)(suite, folder, announce):
                statuses[result.status] += 1
                time_left.finish(result.case_id)
                if bar and task is not None:
                    bar.advance(task)
                console.print(f"[{sum(statuses.values())}/{len(suite.cases)}] {line(result, labels)}", soft_wrap=True)
                for sentence in advise(result):
                    console.print(f"    {sentence}", soft_wrap=True)
    finally:
        folder.close()
    return Counter({str(status): count for status, count in statuses.items()})


def predicted_seconds(suite: Suite, finished: Collection[str] = ()) -> dict[str, float]:
    """Seconds that each case will take, by id, without those that are finished and those that `precheck` will refuse."""
    stopped = StoppedCurves([])
    return {
        case.case_id: predict(case, suite.budget).seconds
        for case in suite.cases
        if case.case_id not in finished and precheck(case, suite.budget, stopped) is None
    }


def search_and_store(cases: list[Case], budget: Budget, step_ms: float | None, path: Path, console: Console) -> list[dict[str, Json]]:
    """Find the largest N for each case and store every probe as a result; return a row per case: predicted, measured, what stopped it."""
    suite = Suite(name="largest", description="The largest memory inside a budget.", cases=[], budget=budget, text="")
    folder = RunFolder(path, describe(suite), resume=False)
    console.print(f"{effort(len(cases), budget)}; results: {folder.results_path}", soft_wrap=True)
    labels = Labels(cases)
    rows: list[dict[str, Json]] = []
    try:
        for case in cases:
            for answer in find_largest(case, budget, measured_probe(budget), step_ms):
                if not isinstance(answer, Largest):
                    folder.append(answer)
                    console.print(line(answer, labels), soft_wrap=True)
                    continue
                fitted = answer.fitted
                rows.append(
                    {
                        "model": case.title,
                        "mode": case.mode,
                        "predicted N": answer.predicted,
                        "measured N": answer.slots,
                        "ms a step": round(fitted.time.step_ms.median, 4) if fitted else None,
                        "peak": format_bytes(fitted.memory.peak_bytes) if fitted else None,
                        "what stopped it": shortened(answer.why),
                    }
                )
    finally:
        folder.close()
    return rows


def line(result: Result, labels: Labels) -> str:
    """One line about a result of a run: time and bytes per step, bandwidth where it is known; or why it was not measured."""
    if result.status != "ok":
        return f"{labels(result.case)}: {result.status}: {shortened(result.reason or 'no reason known')}"
    step = result.time.step_ms
    half_width = (step.ci_high - step.ci_low) / 2 / step.median
    text = f"{labels(result.case)}: {format_number(step.median)} ms/step ±{half_width:.0%}, {_saved(result.memory)}"
    if result.floor_share is not None:
        text += f", {result.floor_share:.0%} of the copy rate"
    if moved_bytes := workload_class(result.case).moved_bytes(result.case):
        text += f", {moved_bytes / step.median / 1e6:.3g} GB/s"
    return f"{text}; {shortened(result.reason)}" if result.reason else text


def _saved(memory: Memory) -> str:
    """Bytes that each further step saves for backward, with their interval where it is wide: `128 [0, 3,713] bytes/step`."""
    text, low, high = f"{memory.bytes_per_step:,.0f}", memory.bytes_per_step_low, memory.bytes_per_step_high
    if low is not None and high is not None and high - low > WIDE * abs(memory.bytes_per_step):
        text += f" [{max(low, min(0, memory.bytes_per_step)):,.0f}, {high:,.0f}]"
    return f"{text} bytes/step"
