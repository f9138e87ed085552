"""`mann-bench report`: pages from stored results."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from mann_bench.cli.console import writing_to
from mann_bench.cli.options import new_folder
from mann_bench.data.errors import UsageError


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders written by `mann-bench run`, `learn` or `profile`")],
    out: Annotated[Path | None, typer.Option(help="folder for the report; default RUN/report, of several runs runs/report-DATE")] = None,
    baseline: Annotated[str, typer.Option(help="compare every curve with this one, as ntm-compiled; default: with its dense model")] = "",
) -> None:
    """Write one self-contained HTML page, Markdown, CSV and plots from stored results."""
    from mann_bench.reports.pages import write_reports

    for run in runs:
        if run.is_file():
            raise UsageError(f"report: expected the folder of a run, got the file {str(run)!r}; its folder is {str(run.parent)!r}")
    folder = out or (runs[0] / "report" if len(runs) == 1 else new_folder("report"))
    try:
        with writing_to(folder):
            pages = write_reports(runs, folder, baseline)
    except UsageError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # that was made for the report; one with content stays
        raise
    for page in pages:
        print(f"report: {page}")
