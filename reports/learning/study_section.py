"""The part of the learning report about a study: its grid, what each model was given, and how close the runner-up was."""

from collections.abc import Iterable

from mann_bench.data.text import one_line
from mann_bench.data.units import format_number
from mann_bench.learn.selection import By, Choice, Configuration, Ranked
from mann_bench.reports.html.table import Cell, Column, Table
from mann_bench.reports.learning.studies import ChosenStudy
from mann_bench.reports.learning.text import whole

RULES = {
    "goal": "the most seeds at the goal, then the fewest sequences until there",
    "validation": "the smallest validation error after all sequences",
}


def study_sentences(study: ChosenStudy) -> list[str]:
    """State the grid, the seeds that chose, and the choice of each model with its runner-up."""
    lines = [one_line(study.record.description)] if study.record.description else []
    pairs = study.with_grid
    if not pairs:
        return [*lines, "Nothing was chosen: the study has no grid."]
    seeds = sorted({run.case.seed for _, choice in pairs if choice for ranked in choice.ranking for run in ranked.runs})
    if seeds:
        chosen_by = f"seed {seeds[0]}, which is" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}, which are"
        lines.append(f"Each model has its own point of the grid, chosen by {chosen_by} not reported: {RULES[study.record.by]}.")
    for grid, configurations in _by_grid(pairs):
        lines.append(f"Grid{f' of {configurations}' if configurations else ''}: {grid}.")
    lines += [_choice_sentence(choice, study.record.by) for _, choice in pairs if choice]
    missing = [f"{configuration.task}, {configuration.name}" for configuration, choice in pairs if choice is None]
    return [*lines, *([f"Runs that choose are missing, nothing is chosen yet: {'; '.join(missing)}."] if missing else [])]


def study_table(study: ChosenStudy) -> Table:
    """Tabulate every candidate of every configuration, the best first."""
    rows = []
    for choice in filter(None, study.choices):
        for place, ranked in enumerate(choice.ranking if len(choice.ranking) > 1 else ()):
            outcome = "chosen" if place == 0 and not choice.failed else "runner-up" if place == 1 else ""
            rows.append(
                (
                    Cell(one_line(choice.configuration.task)),
                    Cell(one_line(choice.configuration.name)),
                    Cell(one_line(ranked.candidate.text)),
                    Cell(outcome),
                    Cell(f"{ranked.reached} of {len(ranked.runs)}", ranked.reached),
                    Cell("-", "") if ranked.sequences is None else Cell(whole(ranked.sequences), ranked.sequences),
                    Cell("-", "") if ranked.validation is None else Cell(f"{ranked.validation:.3g}", ranked.validation),
                    Cell(f"{ranked.level:,.0f}", ranked.level),
                    Cell("", "", tuple((str(run.case.seed), run.case_id) for run in ranked.runs)),
                )
            )
    heads = (
        *(Column("task"), Column("curve"), Column("point of the grid"), Column("")),
        *(Column(head, True) for head in ("seeds at the goal", "sequences until there", "validation error", "level")),
        Column("runs, by seed"),
    )
    note = (
        f"The best first: {RULES[study.record.by]}. Sequences: mean of the seeds that reached the goal. Validation error (wrong bits a "
        "sequence, or the share of wrong answers) and level: medians. Of equals the first in the grid."
    )
    return Table(f"What {study.record.name} chose from", note, heads, tuple(rows))


def _choice_sentence(choice: Choice, by: By) -> str:
    """`recall, sam: learning_rate 0.003 (2 of 2 seeds at the goal after 24,000 sequences); runner-up ..., 1.4 times as many.`"""
    name = one_line(f"{choice.configuration.task}, {choice.configuration.name}")
    if choice.failed:
        return f"{name}: no point of the grid trained to the end, so nothing is reported."
    best, second = choice.ranking[:2]
    first, other = (f"{one_line(ranked.candidate.text)} ({_outcome(ranked, by)})" for ranked in (best, second))
    return f"{name}: {first}; runner-up {other}{_distance(best, second, by)}.{_at_the_end(choice)}"


def _outcome(ranked: Ranked, by: By) -> str:
    """What decided, as text."""
    if ranked.trained < len(ranked.runs):
        return f"{len(ranked.runs) - ranked.trained} of {len(ranked.runs)} seeds did not train to the end"
    error = "no validation error" if ranked.validation is None else f"validation error {ranked.validation:.3g}"
    if by == "validation":
        return error
    after = "" if ranked.sequences is None else f" after {whole(ranked.sequences)} sequences"
    return f"{ranked.reached} of {len(ranked.runs)} seeds at the goal{after}" + (f", {error}" if not ranked.reached else "")


def _distance(best: Ranked, second: Ranked, by: By) -> str:
    """How close the runner-up was, where both have the same kind of number."""
    if (best.trained, second.trained) != (len(best.runs), len(second.runs)):
        return ""
    if by == "goal" and best.sequences and second.sequences and best.reached == second.reached:
        return f", {format_number(second.sequences / best.sequences)} times as many"
    if (by == "validation" or best.reached == second.reached == 0) and best.validation and second.validation and best.level == second.level:
        return f", {format_number(second.validation / best.validation)} times as large"
    return ""


def _at_the_end(choice: Choice) -> str:
    """A remark if the choice is the lowest or highest of three or more numbers."""
    for name, value in choice.best.candidate.values.items():
        tried = {candidate.values[name] for candidate in choice.configuration.candidates if isinstance(candidate.values[name], int | float)}
        if len(tried) > 2 and value in (min(tried), max(tried)):
            return f" It is the {'lowest' if value == min(tried) else 'highest'} {name} of the grid: a wider one may hold a better."
    return ""


def _by_grid(pairs: Iterable[tuple[Configuration, Choice | None]]) -> list[tuple[str, str]]:
    """The different grids, and the configurations that have each; "" if all have the same."""
    grids: dict[str, dict[str, None]] = {}
    for configuration, _ in pairs:
        names = configuration.candidates[0].values
        tried = {name: dict.fromkeys(_text(candidate.values[name]) for candidate in configuration.candidates) for name in names}
        grid = "; ".join(f"{name} {', '.join(values)}" for name, values in tried.items())
        grids.setdefault(one_line(grid), {})[one_line(configuration.name)] = None
    return [(grid, ", ".join(names) if len(grids) > 1 else "") for grid, names in grids.items()]


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
