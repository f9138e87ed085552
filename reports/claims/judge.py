"""Judge all of the paper's claims, from measured cases and from training runs."""

from collections.abc import Sequence

import pandas as pd

from mann_bench.reports.claims.claim import LEARNING, ClaimVerdict, load_claims
from mann_bench.reports.claims.learned import judge_learning
from mann_bench.reports.claims.measured import judge_measured
from mann_bench.reports.learning.experiments import Experiment

NO_RUN = "no case of these runs is in this set-up; `mann-bench run paper` has them"
NO_TRAINING = (
    "no training run of these folders is in this set-up; `mann-bench learn` makes them, and `mann-bench claims` takes their folders too"
)


def judge_claims(frame: pd.DataFrame | None, experiments: Sequence[Experiment] = ()) -> list[ClaimVerdict]:
    """Judge each claim in every setup that it is about.

    Args:
        frame: measured cases (`load_frame`), None if there are none.
        experiments: training runs (`load_experiments`).

    Returns:
        At least one verdict a claim, in the order of the claims; "not run" for a claim that no case is about.
    """
    learned = judge_learning(experiments)
    verdicts = []
    for claim in load_claims():
        if claim.kind in LEARNING:
            judged, missing = learned.get(claim.id, []), NO_TRAINING
        else:
            judged, missing = judge_measured(claim, frame) if frame is not None else [], NO_RUN
        verdicts += judged or [ClaimVerdict(claim, "not run", remarks=(missing,))]
    return verdicts
