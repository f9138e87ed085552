"""`mann-bench claims`: the claims of the paper against results."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mann_bench.cli.console import writing_to
from mann_bench.cli.options import AsJson
from mann_bench.data.text import visible


def claims(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of `mann-bench run`, best of suite paper, and of `learn`")],
    out: Annotated[Path | None, typer.Option(help="folder for the page claims.html: the paper's numbers and ours on one axis")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge each claim of Rae et al. 2016 by the results: reproduced, exceeded, not reproduced, not run."""
    from mann_bench.reports.claims.display import to_json, to_text
    from mann_bench.reports.claims.judge import judge_claims
    from mann_bench.reports.data.frame import load_frame
    from mann_bench.reports.learning.experiments import load_experiments
    from mann_bench.reports.pages import split_runs

    measured, trained = split_runs(runs)
    verdicts = judge_claims(load_frame(measured) if measured else None, load_experiments(trained))
    if out is not None:
        from mann_bench.reports.claims.page import write_claims_page

        with writing_to(out):
            page = write_claims_page(verdicts, runs, out)
    if as_json:
        print(json.dumps([to_json(verdict) for verdict in verdicts]))
        return
    for verdict in verdicts:
        print(f"{visible(to_text(verdict))}\n")
    if out is not None:
        print(f"page: {page}")
