"""The short verdict of a learning report: one sentence for each question, before all details."""

import numpy as np

from mann_bench.data.text import one_line
from mann_bench.data.units import format_duration
from mann_bench.reports.learning.comparison import decide, ratio
from mann_bench.reports.learning.experiments import Curve, Experiment
from mann_bench.reports.learning.sentences import babi_sentences, one_shot_sentences
from mann_bench.reports.learning.text import ratio_text, whole


def headline(experiment: Experiment) -> str:
    """Answer who learned, and who needed more, in a sentence."""
    curves = [curve for curve in experiment.curves if curve.trained]
    if not curves:
        return "Nothing was trained."
    if experiment.has_curriculum:
        return " ".join(_furthest(part, host) for host, part in experiment.by_host.items())
    of_task = {"babi": babi_sentences, "omniglot": one_shot_sentences}.get(experiment.case.task)
    if of_task is not None:
        return " ".join(of_task(experiment)) or "Trained, but not tested."
    return _first_at_goal(experiment, curves)


def _furthest(experiment: Experiment, host: str) -> str:
    """Which curve came furthest in the same time, among the runs of a host."""
    seconds = experiment.common_seconds
    levels = {curve.name: float(np.median(curve.levels_at(seconds))) for curve in experiment.curves if curve.trained}
    ordered = sorted(levels.items(), key=lambda entry: -entry[1])
    highest = ordered[0][1]
    first = [name for name, level in ordered if level == highest]
    others = [f"{name} {whole(level)}" for name, level in ordered[len(first) :]]
    where = f"On {one_line(host)}: " if host else ""
    best = f"{where}{' and '.join(first)} {'comes' if len(first) == 1 else 'come'} furthest: level {whole(highest)} ({experiment.unit})"
    return f"{best} after {format_duration(seconds)}" + (f"; then {', '.join(others)}." if others else ".")


def _first_at_goal(experiment: Experiment, curves: list[Curve]) -> str:
    goals = {curve.name: curve.to_goal("sequences") for curve in curves}
    reached = sorted((curve for curve in curves if np.isfinite(goals[curve.name].value)), key=lambda curve: goals[curve.name].value)
    if not reached:
        return f"Half of the seeds of no model come below {experiment.case.goal:g} bits."
    text = f"Below {experiment.case.goal:g} bits first: {reached[0].name}, after {whole(goals[reached[0].name].value)} sequences"
    never = [curve.name for curve in curves if curve not in reached]
    text += f"; {', '.join(never)} not within the limit" if never else ""
    sam = experiment.reference
    parts, undecided = [], []
    for curve in curves:
        found = ratio(curve, sam, "sequences") if sam is not None and curve is not sam and experiment.reference_of(curve) is sam else None
        if found is None or sam is None:
            continue
        decision = decide(curve, sam, found)
        if decision == "not decided":
            undecided.append(curve.name)
        else:
            parts.append(f"{curve.name} needs {ratio_text(found)} times as many as {sam.name}")
    text += f". Decided: {'; '.join(parts)}" if parts else ""
    return text + (f". Against {sam.name} not decided: {', '.join(undecided)}." if undecided and sam is not None else ".")
