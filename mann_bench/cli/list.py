"""`mann-bench list`: the models, the suites and the studies."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer
from rich.table import Table

from mann_bench.cli.console import wide_console
from mann_bench.cli.options import AsJson
from mann_bench.data.errors import UsageError
from mann_bench.data.registry import describe_models
from mann_bench.data.suite import load_suite, suite_names
from mann_bench.learn.study import Study, load_study, study_names


def list_(
    what: Annotated[str, typer.Argument(metavar="models|suites|studies")] = "models",
    as_json: AsJson = False,
) -> None:
    """List the models (source, cost per step, options, parameters), the suites of `run`, or the studies of `learn`."""
    listings: Mapping[str, Callable[[], Sequence[Mapping[str, str | int | list[str]]]]] = {
        "models": describe_models,
        "suites": lambda: [{"name": s.name, "cases": len(s.cases), "description": s.description} for s in map(load_suite, suite_names())],
        "studies": lambda: [_describe(study) for study in map(load_study, study_names())],
    }
    if what not in listings:
        raise UsageError(f"list: expected models, suites or studies, got {what!r}")
    rows = listings[what]()
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(*rows[0], show_lines=what == "models")
    for row in rows:
        table.add_row(*(", ".join(value) if isinstance(value, list) else str(value) for value in row.values()))
    wide_console().print(table)


def _describe(study: Study) -> dict[str, str | int | list[str]]:
    choosing, reported = study.run_counts()
    tasks = list(dict.fromkeys(entry.task for entry in study.tasks))
    return {"name": study.name, "tasks": tasks, "runs that choose": choosing, "reported": reported, "description": study.description}
