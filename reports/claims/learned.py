"""Judge claims about learning from training runs: sequences to the goal, levels of a curriculum, generalization, bAbI."""

from collections.abc import Sequence

import numpy as np

from mann_bench.data.units import format_duration, format_slots
from mann_bench.reports.claims.claim import LEARNING, MAX_FACTOR, Claim, ClaimVerdict, Verdict, load_claims, verdict_of
from mann_bench.reports.learning.babi import PAPER_ERRORS, babi_errors
from mann_bench.reports.learning.comparison import MIN_SEEDS, GoalRatio, few_seeds, log_rank, ratio
from mann_bench.reports.learning.experiments import Curve, Experiment
from mann_bench.reports.learning.generalization import better_than_chance
from mann_bench.reports.learning.selection import select
from mann_bench.reports.learning.text import error_text, run_length

DENSE_MODELS = ("ntm", "dam")  # of Figure 2
PAPER_SETTINGS = "The paper: 30 seeds, RMSProp at 1e-5, minibatch 8 on each of 8 workers."


def judge_learning(experiments: Sequence[Experiment]) -> dict[str, list[ClaimVerdict]]:
    """Judge the claims about learning.

    Returns:
        The verdicts by the claim's id: one for each experiment that the claim is about and each SAM in it, for `as_well` and `faster` one
        for each dense model.
    """
    verdicts: dict[str, list[ClaimVerdict]] = {}
    for claim in (claim for claim in load_claims() if claim.kind in LEARNING):
        for experiment in (experiment for experiment in experiments if _is_about(claim, experiment)):
            for sam in (curve for curve in experiment.curves if curve.case.model == "sam" and curve.trained):
                verdicts.setdefault(claim.id, []).extend(_judge(claim, experiment, sam))
    return verdicts


def _is_about(claim: Claim, experiment: Experiment) -> bool:
    case = experiment.case
    if case.task != claim.task:
        return False
    if claim.kind == "failed":
        return True
    return experiment.has_curriculum if claim.levels is None else not experiment.has_curriculum and case.levels == claim.levels


def _judge(claim: Claim, experiment: Experiment, sam: Curve) -> list[ClaimVerdict]:
    if claim.kind in ("as_well", "faster"):
        dense = (curve for curve in experiment.curves if curve.case.model in DENSE_MODELS and curve.trained and curve.arm == sam.arm)
        return [judged for curve in dense if (judged := _judge_sequences(claim, experiment, sam, curve))]
    judge = {"level": _judge_level, "beyond": _judge_beyond, "failed": _judge_failed}[claim.kind]
    judged = judge(claim, experiment, sam)
    return [judged] if judged else []


def _judge_sequences(claim: Claim, experiment: Experiment, sam: Curve, dense: Curve) -> ClaimVerdict | None:
    """Judge the sequences to the goal, the dense model's over SAM's."""
    goal_ratio = ratio(dense, sam, "sequences")
    if goal_ratio is None:
        return None
    value, low, high, bound = goal_ratio
    p = log_rank(dense, sam)
    test = [] if p is None else [f"Log-rank test of all seeds: p = {p:.2g}."]
    remarks = [_to_goal(sam, dense), *test, _settings(sam, dense), PAPER_SETTINGS]
    verdict: Verdict = "not decided" if few_seeds(sam, dense) else _verdict_of_interval(claim, goal_ratio)
    if verdict == "not decided":
        remarks.insert(0, _why_not_decided(claim, sam, dense, bound))
    if bound:
        ended = dense if bound == "at least" else sam
        remarks.insert(0, f"A bound, {bound} this: {ended.name} ended before its goal.")
    how = f"{dense.name} over {sam.name}, sequences until {experiment.case.goal:g} bits a bit; {experiment.title}"
    ends = (None if bound == "at most" else low, None if np.isinf(high) else high)
    return ClaimVerdict(claim, verdict, value, ends[0], ends[1], how, tuple(remarks), _ids(sam, dense))


def _verdict_of_interval(claim: Claim, found: GoalRatio) -> Verdict:
    """The verdict that follows from all of an interval."""
    enough = 1 / MAX_FACTOR if claim.kind == "as_well" else 1.0  # as well as: at most a tenth more sequences
    if claim.kind == "as_well" and found.low > MAX_FACTOR:
        return "exceeded"
    return "reproduced" if found.low > enough else "not reproduced" if found.high < enough else "not decided"


def _why_not_decided(claim: Claim, sam: Curve, dense: Curve, bound: str) -> str:
    if few_seeds(sam, dense):
        return f"Too few seeds for an interval: it takes {MIN_SEEDS} of each, as in a study (`mann-bench list studies`)."
    if bound:
        return "It does not tell who needs fewer: train longer (a larger limit)."
    border = "1" if claim.kind == "faster" else "a tenth more sequences"
    return f"The interval holds {border}: more seeds would narrow it."


def _judge_level(claim: Claim, experiment: Experiment, sam: Curve) -> ClaimVerdict:
    levels = sorted(run.level or 0 for run in sam.trained)
    remark = f"Highest level of each seed: {', '.join(f'{level:,}' for level in levels)}."
    return _judged(claim, experiment, sam, float(np.median(levels)), [remark])


def _judge_beyond(claim: Claim, experiment: Experiment, sam: Curve) -> ClaimVerdict | None:
    beyond = better_than_chance(experiment, sam)
    if beyond is None:
        return None
    error, chance = error_text(beyond.error, experiment), f"{beyond.chance:.3g}"
    remarks = [f"Trained up to {beyond.trained:,}. There {error} bits of an answer are wrong, chance {chance} (the paper's 48)."]
    if beyond.is_last:
        remarks.append("It is the highest level that was tested in the time given.")
    return _judged(claim, experiment, sam, float(beyond.level), remarks)


def _judge_failed(claim: Claim, experiment: Experiment, sam: Curve) -> ClaimVerdict | None:
    measured, best = experiment.evaluations.dropna(subset="error"), select(sam)
    if best:
        measured = measured[measured["case_id"] == best.run.case_id]
    errors = babi_errors(measured, sam)
    failed = sum(error > PAPER_ERRORS.fails_above for error in errors.values())
    remarks = ["The best run by validation." if best else f"The mean over {len(sam.trained)} runs." if len(sam.trained) > 1 else "One run."]
    return _judged(claim, experiment, sam, float(failed), [*remarks, run_length(experiment)]) if errors else None


def _judged(claim: Claim, experiment: Experiment, sam: Curve, value: float, remarks: list[str]) -> ClaimVerdict:
    how = f"{sam.name}, median of {len(sam.trained)} seeds" if len(sam.trained) > 1 else f"{sam.name}, one seed"
    remarks = [*remarks, _settings(sam)]
    return ClaimVerdict(claim, verdict_of(claim, value), value, None, None, f"{how}; {experiment.title}", tuple(remarks), _ids(sam))


def _to_goal(*curves: Curve) -> str:
    """Which curves reached the goal, and after how many sequences."""
    parts = []
    for curve in curves:
        goal = curve.to_goal("sequences")
        after = f"after {goal.value:,.0f}" if np.isfinite(goal.value) else f"not within {goal.limit:,.0f}"
        parts.append(f"{curve.name} {after} ({goal.reached} of {goal.seeds} seeds)")
    return f"Sequences to the goal: {', '.join(parts)}."


def _settings(sam: Curve, *others: Curve) -> str:
    """Sizes and training time of SAM's runs, and the optimizer and rate of all curves, as text."""
    case, longest = sam.case, format_duration(max(run.curve[-1].wall_s for run in sam.trained))
    sizes = f"N {format_slots(case.slots)}, index {case.index}, minibatch {case.batch}"
    rates = dict.fromkeys(f"{curve.case.optimizer} at {curve.case.learning_rate:g}" for curve in (sam, *others))
    if len(rates) > 1:
        rates = dict.fromkeys(f"{curve.name} {curve.case.optimizer} at {curve.case.learning_rate:g}" for curve in (sam, *others))
    return f"{sizes}, {', '.join(rates)}, at most {longest}."


def _ids(*curves: Curve) -> tuple[str, ...]:
    return tuple(run.case_id for curve in curves for run in curve.trained)
