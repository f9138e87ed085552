"""What commands print, and how a run that is stopped ends."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from mann_bench.data.errors import DISK_FULL

console = Console(stderr=True)


def wide_console() -> Console:
    """Standard output; piped, wide enough that no column is cut."""
    return Console(width=None if sys.stdout.isatty() else 200)


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
