"""Printing of the commands, and the end of a run that was stopped."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from mann_bench.cli.stopping import Stopped
from mann_bench.data.errors import DISK_FULL

console = Console(stderr=True)


def wide_console() -> Console:
    """Return a console for standard output; if piped, it is wide enough that no column is cut."""
    return Console(width=None if sys.stdout.isatty() else 200)


@contextmanager
def stoppable(folder: Path) -> Iterator[None]:
    """Turn a signal to end (`stopping.py`) and a full disk into a sentence on how to resume the run, and an exit code."""
    advice = f"Go on with the same command and: --out {folder} --resume"
    try:
        yield
    except Stopped as stopped:
        console.print(f"stopped by {stopped.name}; what finished is kept. {advice}", markup=False, soft_wrap=True)
        raise typer.Exit(stopped.exit_code) from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        message = f"error: {folder}: {os.strerror(error.errno)}; what finished is kept. Free some space. {advice}"
        console.print(message, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None


def summarize(what: str, results: Path, statuses: Counter[str], as_json: bool) -> None:
    """Print the statuses of a run, its results file and the next command."""
    if as_json:
        print(json.dumps({"out": str(results.parent), "results": str(results), "statuses": dict(statuses)}))
        return
    print(f"{sum(statuses.values())} {what}: " + ", ".join(f"{count} {status}" for status, count in statuses.most_common()))
    print(f"results: {results}")
    print(f"next:    mann-bench report {results.parent}")
