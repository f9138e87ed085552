"""`mann-bench report`: pages from stored results."""

from pathlib import Path
from typing import Annotated

import typer

from mann_bench.cli.console import writing_to


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders written by `mann-bench run`, `learn` or `profile`")],
    out: Annotated[Path | None, typer.Option(help="folder for the report; default RUN/report")] = None,
    baseline: Annotated[str, typer.Option(help="compare every curve with this one, as ntm-compiled; default: with its dense model")] = "",
) -> None:
    """Write one self-contained HTML page, Markdown, CSV and plots from stored results."""
    from mann_bench.reports.pages import write_reports

    folder = out or runs[0] / "report"
    with writing_to(folder):
        pages = write_reports(runs, folder, baseline)
    for page in pages:
        print(f"report: {page}")
