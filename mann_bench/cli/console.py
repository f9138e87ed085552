"""Printing of the commands, and the end of a run that was stopped."""

import json
import os
import shlex
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from mann_bench.cli.os_errors import explain
from mann_bench.cli.stopping import Stopped
from mann_bench.data.errors import StorageWarning
from mann_bench.data.text import visible


class PlainConsole(Console):
    """A console that shows all text as it is: names and reasons are of others, and may hold markup or a terminal's escapes.

    Nothing is highlighted either: rich's highlighter takes seconds for a reason of some 10,000 characters.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, stderr=stderr, width=width)

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a text with what is not printable as escape sequences."""
        return super().render_str(visible(text), **options)


console = PlainConsole(stderr=True)


def tell(text: str) -> None:
    """Print a sentence on standard error, in one line however wide the terminal is."""
    console.print(text, soft_wrap=True)


def wide_console() -> Console:
    """Return a console for standard output, as wide as the terminal or COLUMNS; else, if piped, wide enough that no column is cut."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return PlainConsole(width=None if known else 200)


@contextmanager
def stoppable(folder: Path) -> Iterator[None]:
    """Turn a signal to end (`stopping.py`) and errors of the system, as a full disk, into a sentence on how to resume, and an exit code."""
    advice = f"Go on with the same command and: --out {shlex.quote(str(folder))} --resume"
    try:
        yield
    except Stopped as stopped:
        tell(f"stopped by {stopped.name}; what finished is kept. {advice}")
        raise typer.Exit(stopped.exit_code) from None
    except OSError as error:
        tell(f"error: {explain(error, folder)}; what finished is kept. {advice}")
        raise typer.Exit(1) from None


@contextmanager
def warnings_as_sentences() -> Iterator[None]:
    """Print a StorageWarning as a sentence, without the line of code that it comes from."""
    format_warning = warnings.formatwarning

    def as_sentence(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
        if issubclass(category, StorageWarning):
            return f"warning: {message}\n"
        return format_warning(message, category, filename, lineno, line)

    warnings.formatwarning = as_sentence
    try:
        yield
    finally:
        warnings.formatwarning = format_warning


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Let an error of the system that names no file, as that of a full disk, name the folder."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(folder)
        raise


def summarize(what: str, results: Path, statuses: Counter[str], as_json: bool) -> None:
    """Print the statuses of a run, its results file and the next command."""
    if as_json:
        print(json.dumps({"out": str(results.parent), "results": str(results), "statuses": dict(statuses)}))
        return
    print(f"{sum(statuses.values())} {what}: " + ", ".join(f"{count} {status}" for status, count in statuses.most_common()))
    print(f"results: {results}")
    print(f"next:    mann-bench report {shlex.quote(str(results.parent))}")
