"""bAbI errors beside those of the paper's Table 1 (`babi.toml`)."""

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import NamedTuple

import numpy as np
import pandas as pd

from mann_bench.reports.html.table import Cell, Column, Table
from mann_bench.reports.learning.experiments import Curve, Experiment
from mann_bench.reports.learning.selection import select
from mann_bench.reports.learning.text import run_length


@dataclass(frozen=True)
class PaperErrors:
    """Test errors in %: `errors[task][model]`.

    `corrected`: a remark on each task whose printed row was misread or corrected. `printed_mean` and `printed_failed`: the means and the
    numbers of failed tasks as the paper prints them; the errors agree with them to 0.1.
    """

    source: str
    models: tuple[str, ...]
    names: tuple[str, ...]
    errors: tuple[tuple[float, ...], ...]
    corrected: dict[int, str]
    printed_mean: dict[str, float]
    printed_failed: dict[str, int]
    fails_above: float

    def of(self, model: str) -> list[float]:
        """Return the errors of one model, by task."""
        return [row[self.models.index(model)] for row in self.errors]


def load_paper_errors() -> PaperErrors:
    """Load the paper's table."""
    data = tomllib.loads(resources.files("mann_bench.reports.learning").joinpath("babi.toml").read_text())
    tasks = data["task"]
    return PaperErrors(
        data["source"],
        tuple(data["models"]),
        tuple(task["name"] for task in tasks),
        tuple(tuple(task["error"]) for task in tasks),
        {number: task["corrected"] for number, task in enumerate(tasks, 1) if "corrected" in task},
        dict(zip(data["models"], data["printed"]["mean"], strict=True)),
        dict(zip(data["models"], data["printed"]["failed"], strict=True)),
        data["fails_above"],
    )


PAPER_ERRORS = load_paper_errors()


class _Column(NamedTuple):
    """A column as shown: errors in % by task, their mean, the number of failed tasks."""

    heading: str
    errors: dict[int, str]
    mean: str
    failed: str


def babi_table(experiment: Experiment) -> Table:
    """Tabulate the errors by task, here and in the paper."""
    measured = experiment.evaluations.dropna(subset="error")
    curves = [curve for curve in experiment.curves if curve.name in set(measured["curve"])]
    columns = []
    for curve in curves:
        if best := select(curve):
            of_best = measured[measured["case_id"] == best.run.case_id]
            columns.append(_babi_column(f"{curve.name}, here, best by validation", babi_errors(of_best, curve)))
        head = f"{curve.name}, here" + (f", mean of {len(curve.trained)}" if len(curve.trained) > 1 else "")
        columns.append(_babi_column(head, babi_errors(measured, curve)))
    for model in (model for model in PAPER_ERRORS.models if model in {curve.case.model for curve in curves}):
        errors = {task: f"{error:.1f}" for task, error in enumerate(PAPER_ERRORS.of(model), 1)}
        mean, failed = f"{PAPER_ERRORS.printed_mean[model]:.1f}", str(PAPER_ERRORS.printed_failed[model])
        columns.append(_Column(f"{model}, paper", errors, mean, failed))
    chance = measured[measured["group"] > 0].groupby("group")["chance"].first()
    columns.append(_babi_column("commonest answer", {int(str(task)): 100 * float(value) for task, value in chance.items()}))
    rows = [
        (
            Cell(f"{task} {name}", task),
            *(Cell(column.errors.get(task, "-"), float(column.errors.get(task, "nan"))) for column in columns),
            Cell(PAPER_ERRORS.corrected.get(task, "")),
        )
        for task, name in enumerate(PAPER_ERRORS.names, 1)
    ]
    rows.append((Cell("mean", 21), *(Cell(column.mean, float(column.mean)) for column in columns), Cell("")))
    failed_cells = (Cell(column.failed, int(column.failed)) for column in columns)
    rows.append((Cell(f"failed (above {PAPER_ERRORS.fails_above:g}%)", 22), *failed_cells, Cell("")))
    note = (
        f"Test error in %: share of questions with any wrong word; {PAPER_ERRORS.source}. "
        f"{run_length(experiment)} The commonest answer: always giving the answer that the task has most often."
    )
    heads = (Column("task"), *(Column(column.heading, True) for column in columns), Column("reading of the paper's table", wraps=True))
    return Table("bAbI, beside the paper", note, heads, tuple(rows) if curves else ())


def _babi_column(heading: str, errors: dict[int, float]) -> _Column:
    values = list(errors.values())
    failed = sum(error > PAPER_ERRORS.fails_above for error in values)
    shown = {task: f"{error:.1f}" for task, error in errors.items()}
    return _Column(heading, shown, f"{np.mean(values):.1f}" if values else "nan", str(failed))


def babi_errors(measured: pd.DataFrame, curve: Curve) -> dict[int, float]:
    """Return each task's error in %, the mean over seeds."""
    means = measured[(measured["curve"] == curve.name) & (measured["group"] > 0)].groupby("group")["error"].mean()
    return {int(str(group)): 100 * float(error) for group, error in means.items()}
