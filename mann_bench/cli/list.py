"""`mann-bench list`: the models and the suites."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.table import Table

from mann_bench.cli.console import wide_console
from mann_bench.cli.options import AsJson
from mann_bench.data.errors import UsageError
from mann_bench.data.suite import load_suite, suite_names


def list_(
    what: Annotated[str, typer.Argument(metavar="models|suites")] = "models",
    as_json: AsJson = False,
) -> None:
    """List the models (source, cost per step, options, parameters) or the suites."""
    if what not in ("models", "suites"):
        raise UsageError(f"list: expected models or suites, got {what!r}")
    from mann_bench.data.registry import describe_models

    rows: Sequence[Mapping[str, str | int | list[str]]] = (
        describe_models()
        if what == "models"
        else [{"name": s.name, "cases": len(s.cases), "description": s.description} for s in map(load_suite, suite_names())]
    )
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(*rows[0], show_lines=what == "models")
    for row in rows:
        table.add_row(*(", ".join(value) if isinstance(value, list) else str(value) for value in row.values()))
    wide_console().print(table)
