"""`mann-bench report`: pages from stored results."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from mann_bench.cli.console import writing_to
from mann_bench.cli.options import new_folder, split_names
from mann_bench.data.errors import UsageError


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders written by `mann-bench run`, `learn` or `profile`")],
    out: Annotated[Path | None, typer.Option(help="folder for the report; default RUN/report, of several runs runs/report-DATE")] = None,
    baseline: Annotated[str, typer.Option(help="compare every curve with this one, as ntm-compiled; default: with its dense model")] = "",
    x: Annotated[
        str, typer.Option(metavar="FIELD", help="plot measurements against N, T, B, W, R, K, H or threads; default: N if it varies")
    ] = "",
    formats: Annotated[
        str | None, typer.Option("--format", help="also write static plots: png, svg, pdf; tex is a table of measurements")
    ] = None,
    columns: Annotated[int, typer.Option(help="width of plots of measurements, in columns of a paper: 1 (3.5 inches) or 2 (7.16)")] = 2,
) -> None:
    """Write one self-contained HTML page, Markdown, CSV and, with --format, static plots from stored results."""
    from mann_bench.reports.html.plot_files import FORMATS, PlotFiles
    from mann_bench.reports.pages import write_reports

    files = PlotFiles(tuple(split_names(formats)), columns)
    if formats is not None and not files.formats:
        raise UsageError(f"--format: expected some of {', '.join(FORMATS)}, as png,pdf; got none; leave it out for no static plots")
    if columns != PlotFiles().columns and not files.formats:
        raise UsageError(f"--columns {columns}: expected --format too, as it is the width of the plots that this writes, as --format pdf")
    for run in runs:
        if run.is_file():
            raise UsageError(f"report: expected the folder of a run, got the file {str(run)!r}; its folder is {str(run.parent)!r}")
    folder = out or (runs[0] / "report" if len(runs) == 1 else new_folder("report"))
    try:
        with writing_to(folder):
            pages = write_reports(runs, folder, baseline, x, files)
    except UsageError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # that was made for the report; one with content stays
        raise
    for page in pages:
        print(f"report: {page}")
