"""`mann-bench list`: what there is to measure, to train on and to judge, by name."""

import json
from typing import Annotated

import typer
from rich.padding import Padding

from mann_bench.cli.console import wide_console
from mann_bench.cli.listings import LISTINGS, Row
from mann_bench.cli.options import AsJson
from mann_bench.cli.tables import print_rows
from mann_bench.data.errors import UsageError, did_you_mean

IN_BLOCKS = ("models", "tasks", "studies")  # have too many facts for a table


def list_(
    what: Annotated[str, typer.Argument(metavar="|".join(LISTINGS), autocompletion=lambda: list(LISTINGS))] = "models",
    as_json: AsJson = False,
) -> None:
    """List models, their options, suites, studies, tasks of `learn`, indexes of sparse models, ops, or the paper's claims."""
    if what not in LISTINGS:
        raise UsageError(f"list: expected one of {', '.join(LISTINGS)}, got {what!r}{did_you_mean(what, list(LISTINGS))}")
    rows = LISTINGS[what]()
    if as_json:
        print(json.dumps(rows))
    elif what == "options":
        print_options(rows)
    elif what in IN_BLOCKS:
        print_blocks(rows)
    else:
        print_rows(wide_console(), [*rows[0]], [[*map(_text, row.values())] for row in rows])


def print_blocks(rows: list[Row]) -> None:
    """Print each row as its name and, indented, a line for each other fact; long facts are wrapped."""
    output = wide_console()
    for row in rows:
        name, *facts = ((head, _text(value)) for head, value in row.items())
        output.print(name[1])
        for head, text in facts:
            if text:
                output.print(Padding.indent(f"{head}: {text}", 4))


def print_options(rows: list[Row]) -> None:
    """Print each option as `name=default` and, indented, what it is; one that several models have with one meaning once."""
    models: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        model, _, option = _text(row["name"]).rpartition(".")
        models.setdefault((option, *(_text(row[fact]) for fact in ("default", "expects", "what"))), []).append(model)
    output = wide_console()
    for (option, default, expects, what), names in sorted(models.items()):
        output.print(f"{option}={default} of {', '.join(names)}: {expects}" if expects else option)
        output.print(Padding.indent(what, 4))


def _text(value: str | int | list[str]) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
