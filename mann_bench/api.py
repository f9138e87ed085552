"""Functions of the public Python interface that need more than a re-export; `mann_bench` exports them."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from mann_bench.data.case import Case
from mann_bench.data.result import Result
from mann_bench.data.store import RunFolder
from mann_bench.data.store import load_results as load_results_of
from mann_bench.data.suite import Suite
from mann_bench.measure.profile import Profile
from mann_bench.reports.data.frame import load_frame as load_frame_of
from mann_bench.run import runner
from mann_bench.run.profiling import profile_in_worker
from mann_bench.run.replies import Failure
from mann_bench.run.session import describe


def run_suite(suite: Suite, folder: str | Path, *, resume: bool = False, on_result: Callable[[Result], None] | None = None) -> list[Result]:
    """Measure every case of a suite in a process of its own and store each result as soon as it is known.

    A case that fails (out of memory, timeout, error) is a `NotMeasured` among the results, and the others go on.

    Args:
        suite: what to measure, from `load_suite` or made of cases.
        folder: where `run.json` and `results.jsonl` go. It must be new or empty, unless `resume` is set.
        resume: go on with the run that is in the folder; only cases without a result are measured.
        on_result: called with each new result as soon as it is stored, to show progress.

    Returns:
        All results of the folder, those of an earlier run first.

    Raises:
        UsageError: the folder holds something else, or another process writes there.
    """
    run = RunFolder(Path(folder), describe(suite), resume=resume)
    try:
        for result in runner.run_suite(suite, run):
            if on_result is not None:
                on_result(result)
        return list(run.records)
    finally:
        run.close()


def load_results(folder: str | Path) -> list[Result]:
    """Load the results that `run_suite` or `mann-bench run` stored in a folder.

    Returns:
        A `Measured` or a `NotMeasured` for each case; `result.status == "ok"` tells them apart.

    Raises:
        UsageError: the folder holds no results, or a line of the file is no result.
    """
    return load_results_of(Path(folder))


def load_frame(folders: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """Load the results of one or several run folders as a data frame with one row a case.

    Returns:
        The fields of the case, and columns with their unit in the name: `step_ms_median` (with `step_ms_ci_low` and `step_ms_ci_high`),
        `bytes_per_step` (bytes saved for backward per step), `peak_bytes`. What was not measured is NaN; see columns `status` and `reason`.

    Raises:
        UsageError: as `load_results`.
    """
    paths = [folders] if isinstance(folders, str | Path) else folders
    return load_frame_of([Path(path) for path in paths])


def profile(case: Case, folder: str | Path, *, memory_bytes: int = 16 * 2**30, seconds: float = 600) -> Profile:
    """Profile one case in a process of its own: time and memory of every step and phase, and what holds the bytes of its peak.

    Args:
        case: what to profile; its model may be `package.module:factory`.
        folder: where `profile.json`, `steps.csv`, `phases.csv` and `trace.json` go; created if needed.
        memory_bytes: what the process may allocate.
        seconds: what it may take.

    Raises:
        RuntimeError: the case failed; the message says how and why.
    """
    reply = profile_in_worker(case, Path(folder), memory_bytes, seconds)
    if isinstance(reply, Failure):
        raise RuntimeError(f"{case.label}: {reply.status}: {reply.reason}")
    return reply
