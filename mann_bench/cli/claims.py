"""`mann-bench claims`: the claims of the paper against results."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mann_bench.cli.options import AsJson


def claims(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of `mann-bench run`, best of suite paper, and of `learn`")],
    as_json: AsJson = False,
) -> None:
    """Judge each claim of Rae et al. 2016 by the results: reproduced, exceeded, not reproduced, not run."""
    from mann_bench.reports import sorted_runs
    from mann_bench.reports.claims import claims as claiming
    from mann_bench.reports.claims.learning import judge_learning
    from mann_bench.reports.data.frame import load_frame
    from mann_bench.reports.learning.experiments import load_experiments

    measured, trained = sorted_runs(runs)
    judged = claiming.judge_claims(load_frame(measured) if measured else None, judge_learning(load_experiments(trained)))
    if as_json:
        print(json.dumps([claiming.to_json(one) for one in judged]))
        return
    for one in judged:
        print(f"{one.verdict.upper():15} {one.claim.says} ({one.claim.source})")
        if one.value is not None:
            print(f"{'':15} paper {one.claim.paper_text}, here {one.ours_text}; {one.how}")
        for remark in one.remarks:
            print(f"{'':15} - {remark}")
        if one.case_ids:
            print(f"{'':15} cases {' '.join(one.case_ids)}")
        print()
