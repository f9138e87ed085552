"""The Python API: what the command line does, as functions. Import the names from `mann_bench`; this module is their home."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from mann_bench.data import store, suite
from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.data.result import Measured, NotMeasured, Result
from mann_bench.data.store import RunFolder
from mann_bench.data.suite import Budget, Suite
from mann_bench.data.units import parse_size
from mann_bench.measure.profile import Profile
from mann_bench.measure.workload import Workload
from mann_bench.reports.data import frame
from mann_bench.run import runner
from mann_bench.run.profiling import profile_in_worker
from mann_bench.run.replies import Failure
from mann_bench.run.session import describe

__all__ = [
    "Budget",
    "Case",
    "Measured",
    "MeasurementError",
    "NotMeasured",
    "Profile",
    "Result",
    "Suite",
    "UsageError",
    "Workload",
    "load_frame",
    "load_results",
    "load_suite",
    "profile",
    "run_suite",
]

Folder = str | os.PathLike[str]


class MeasurementError(RuntimeError):
    """A case that could not be measured.

    Attributes:
        status: `oom`, `timeout`, `error`, `unavailable` or another status of a result.
        reason: why, in a sentence.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


def load_suite(name: Folder) -> Suite:
    """Load a suite that ships with mann-bench, or one of your own.

    Args:
        name: the name of a shipped suite (`"quick"`), or the path of a file that ends in `.toml`.

    Raises:
        UsageError: there is no such suite, or the file has a mistake; the message names the key.
    """
    return suite.load_suite(os.fspath(name))


def run_suite(suite: Suite, folder: Folder, *, resume: bool = False, on_result: Callable[[Result], None] | None = None) -> list[Result]:
    """Measure every case of a suite and store the results.

    Each case runs in a process of its own. A model of your own (`model="my_module:MyModel"`) is imported there, so its module must lie in
    the current folder or on `PYTHONPATH`.

    Args:
        suite: what to measure.
        folder: where the results go; each result is on disk before the next case starts.
        resume: continue the run that the folder holds, if it holds one: finished cases are not measured again.
        on_result: called with each new result once it is stored.

    Returns:
        All results in the folder, in the order in which the cases finished. A case that failed is a `NotMeasured` with its reason.

    Raises:
        UsageError: the folder holds another run or other files.
    """
    path = Path(folder)
    run = RunFolder(path, describe(suite), resume=resume and (path / "run.json").exists())
    try:
        for result in runner.run_suite(suite, run):
            if on_result is not None:
                on_result(result)
        return list(run.records)
    finally:
        run.close()


def load_results(folder: Folder) -> list[Result]:
    """Load the results of a run.

    Args:
        folder: a folder written by `run_suite` or `mann-bench run`.

    Raises:
        UsageError: it holds no results, or a line that is not a result.
    """
    return store.load_results(Path(folder))


def load_frame(*folders: Folder) -> pd.DataFrame:
    """Load the results of one or more runs as a table.

    Args:
        folders: folders written by `run_suite` or `mann-bench run`.

    Returns:
        A row for each result. Columns are the fields of `Case`, `status`, `reason` and what was measured. `step_ms_median`,
        `step_ms_ci_low` and `step_ms_ci_high` are milliseconds a step. `peak_bytes` is the peak memory, `bytes_per_step` the bytes
        saved for backward per step. `run` names the folder, `curve` a line of a plot, `setting` what all lines of a plot share.

    Raises:
        UsageError: a folder holds no results.
    """
    return frame.load_frame([Path(folder) for folder in folders])


def profile(case: Case, folder: Folder | None = None, *, memory: int | str = "16G", seconds: float = 600) -> Profile:
    """Measure the time and memory of every step and phase of one case, in a process of its own.

    Args:
        case: the case; its `model` must be a model, not an op or an index.
        folder: where `profile.json`, `steps.csv`, `phases.csv` and a Chrome trace go. None: they are not kept.
        memory: bytes that the process may allocate, as a number or as text such as `"16G"`.
        seconds: how long it may take.

    Raises:
        MeasurementError: the case ran out of memory or time, or its model raised.
    """
    with tempfile.TemporaryDirectory() as scratch:
        reply = profile_in_worker(case, Path(scratch if folder is None else folder), parse_size(memory), seconds)
    if isinstance(reply, Failure):
        raise MeasurementError(reply.status, reply.reason)
    return reply
