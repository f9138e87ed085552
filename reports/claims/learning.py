"""The paper's claims about learning against training runs: sequences to the goal, levels of a curriculum, generalization, bAbI."""

from collections.abc import Sequence

import numpy as np

from mann_bench.data.units import format_duration, format_slots
from mann_bench.reports.claims.claims import CLOSE, LEARNING, Claim, Judged, Verdict, claims, verdict_of
from mann_bench.reports.learning.babi import TEST_ERRORS
from mann_bench.reports.learning.experiments import Curve, Experiment, ratio
from mann_bench.reports.learning.selection import select
from mann_bench.reports.learning.tables import babi_errors, error_text, run_length
from mann_bench.reports.learning.verdict import better_than_chance

DENSE = ("ntm", "dam")  # of Figure 2
PAPER_SETTINGS = "The paper: 30 seeds, RMSProp at 1e-5, minibatch 8 on each of 8 workers."


def judge_learning(experiments: Sequence[Experiment]) -> dict[str, list[Judged]]:
    """By a claim's id, a line for each experiment that it is about; for `as_well` and `faster`, for each dense model in it."""
    found: dict[str, list[Judged]] = {}
    for claim in (claim for claim in claims() if claim.kind in LEARNING):
        for experiment in (one for one in experiments if _is_about(claim, one)):
            for sam in (curve for curve in experiment.curves if curve.case.model == "sam" and curve.trained):
                found.setdefault(claim.id, []).extend(_judge(claim, experiment, sam))
    return found


def _is_about(claim: Claim, experiment: Experiment) -> bool:
    case = experiment.case
    if case.task != claim.task:
        return False
    if claim.kind == "failed":
        return True
    return experiment.has_curriculum if claim.levels is None else not experiment.has_curriculum and case.levels == claim.levels


def _judge(claim: Claim, experiment: Experiment, sam: Curve) -> list[Judged]:
    if claim.kind in ("as_well", "faster"):
        dense = (curve for curve in experiment.curves if curve.case.model in DENSE and curve.trained)
        return [one for curve in dense if (one := _judge_sequences(claim, experiment, sam, curve))]
    judge = {"level": _judge_level, "beyond": _judge_beyond, "failed": _judge_failed}[claim.kind]
    judged = judge(claim, experiment, sam)
    return [judged] if judged else []


def _judge_sequences(claim: Claim, experiment: Experiment, sam: Curve, dense: Curve) -> Judged | None:
    """Sequences to the goal, the dense model's over SAM's."""
    found = ratio(dense, sam, "sequences")
    if found is None:
        return None
    value, low, high, bound = found
    remarks = [_to_goal(sam, dense), _settings(sam), PAPER_SETTINGS]
    if bound:
        ended = dense if bound == "at least" else sam
        remarks.insert(0, f"A bound, {bound} this: {ended.name} ended before its goal.")
    verdict = _verdict_of_ratio(claim, value, low, high, bound)
    if verdict == "not run":
        remarks.insert(1, "It does not tell who needs fewer: train longer (`mann-bench learn ... --resume` with a larger limit).")
    how = f"{dense.name} over {sam.name}, sequences until {experiment.case.goal:g} bits a bit; {experiment.title}"
    ends = (None if bound == "at most" else low, None if bound == "at least" else high)
    return Judged(claim, verdict, value, ends[0], ends[1], how, tuple(remarks), _ids(sam, dense))


def _verdict_of_ratio(claim: Claim, value: float, low: float, high: float, bound: str) -> Verdict:
    """What of a lower bound, an upper bound or an interval follows for the claim; "not run" where nothing does."""
    enough = 1 / CLOSE if claim.kind == "as_well" else 1.0  # as well as: at most a tenth more sequences
    if bound == "at least":
        return "reproduced" if value > enough else "not run"
    if bound == "at most":
        return "not reproduced" if value < enough else "not run"
    if claim.kind == "faster":
        return "reproduced" if low > enough else "not reproduced"
    return "exceeded" if low > CLOSE else "reproduced" if high >= enough else "not reproduced"


def _judge_level(claim: Claim, experiment: Experiment, sam: Curve) -> Judged:
    levels = sorted(run.level or 0 for run in sam.trained)
    return _judged(
        claim, experiment, sam, float(np.median(levels)), [f"Highest level of each seed: {', '.join(f'{level:,}' for level in levels)}."]
    )


def _judge_beyond(claim: Claim, experiment: Experiment, sam: Curve) -> Judged | None:
    found = better_than_chance(experiment, sam)
    if found is None:
        return None
    error, chance = error_text(found.error, experiment), f"{found.chance:.3g}"
    remarks = [f"Trained up to {found.trained:,}. There {error} bits of an answer are wrong, chance {chance} (the paper's 48)."]
    if found.is_last:
        remarks.append("It is the highest level that was tested in the time given.")
    return _judged(claim, experiment, sam, float(found.level), remarks)


def _judge_failed(claim: Claim, experiment: Experiment, sam: Curve) -> Judged | None:
    measured, best = experiment.evaluations.dropna(subset="error"), select(sam)
    if best:
        measured = measured[measured["case_id"] == best.run.case_id]
    errors = babi_errors(measured, sam)
    failed = sum(error > TEST_ERRORS.fails_above for error in errors.values())
    remarks = ["The best run by validation." if best else f"The mean over {len(sam.trained)} runs." if len(sam.trained) > 1 else "One run."]
    return _judged(claim, experiment, sam, float(failed), [*remarks, run_length(experiment)]) if errors else None


def _judged(claim: Claim, experiment: Experiment, sam: Curve, value: float, remarks: list[str]) -> Judged:
    how = f"{sam.name}, median of {len(sam.trained)} seeds" if len(sam.trained) > 1 else f"{sam.name}, one seed"
    remarks = [*remarks, _settings(sam)]
    return Judged(claim, verdict_of(claim, value), value, None, None, f"{how}; {experiment.title}", tuple(remarks), _ids(sam))


def _to_goal(*curves: Curve) -> str:
    """Who came to the goal, after how many sequences."""
    parts = []
    for curve in curves:
        found = curve.to_goal("sequences")
        after = f"after {found.value:,.0f}" if np.isfinite(found.value) else f"not within {found.limit:,.0f}"
        parts.append(f"{curve.name} {after} ({found.reached} of {found.seeds} seeds)")
    return f"Sequences to the goal: {', '.join(parts)}."


def _settings(sam: Curve) -> str:
    case, longest = sam.case, format_duration(max(run.curve[-1].wall_s for run in sam.trained))
    sizes = f"N {format_slots(case.slots)}, index {case.index}, minibatch {case.batch}"
    return f"{sizes}, {case.optimizer} at {case.learning_rate:g}, at most {longest}."


def _ids(*curves: Curve) -> tuple[str, ...]:
    return tuple(run.case_id for curve in curves for run in curve.trained)
