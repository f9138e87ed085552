"""`mann-bench site`: the pages of all runs in one place."""

from pathlib import Path
from typing import Annotated

import typer

from mann_bench.cli.console import tell, writing_to


def site(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="a folder with runs, at any depth")],
    out: Annotated[Path, typer.Option(help="folder for the site")] = Path("site"),
    history: Annotated[
        Path | None, typer.Option(help="a folder of asv's results, as .asv/results: a page of the history over commits")
    ] = None,
) -> None:
    """Write an index of all runs below a folder, the pages of each, pages that join machines, and the history."""
    from mann_bench.reports.site import write_site

    with writing_to(out):
        index, runs = write_site(root, out, history)
    for run in runs:
        if run.error:
            tell(f"{run.folder}: {run.error}")
    print(f"site: {index}")
    raise typer.Exit(int(any(run.error for run in runs)))
