"""Write pages: templates filled, the environment of a run as lines."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

import jinja2

from mann_bench import __version__
from mann_bench.data.conditions import Environment
from mann_bench.data.files import write_atomically
from mann_bench.data.text import defused, one_line, shortened
from mann_bench.data.units import format_bytes
from mann_bench.reports.data.frame import NamedRun
from mann_bench.reports.html.table import LONG

OWN_CELL = re.compile(r"[-+]?[\d.,]+( \w+)?|-")  # a number with its unit, or nothing measured: no formula although it may begin like one


class Link(NamedTuple):
    """A link to another page: its title, and its path from the page that links."""

    title: str
    path: str


def write_page(path: Path, context: Mapping[str, object]) -> Path:
    """Fill the template that is called like the file (`report.html.j2` for `report.html`) and write it; return the path."""
    write_atomically(path, _templates().get_template(f"{path.name}.j2").render(context, version=__version__))
    return path


class EnvironmentLines(TypedDict):
    """The environment of a run as the templates show it: names and values."""

    run: str
    lines: dict[str, str]


def environment_lines(run: NamedRun) -> EnvironmentLines:
    """List the environment of a run as names and values to be shown."""
    environment: Environment = run.description.get("environment", {})
    lines = {"suite": run.description.get("suite", "unknown"), "started": run.description.get("started_at", "unknown")}
    lines |= {"host": run.description["host"]} if "host" in run.description else {}
    for name, value in environment.items():
        shown = name.removesuffix("_bytes").replace("_", " ")
        if name.endswith("_bytes") and isinstance(value, int | float):
            lines[shown] = format_bytes(value)
        elif name == "gpus":
            texts = [f"{gpu['name']} ({gpu['uuid']}, driver {gpu['driver']})" for gpu in environment["gpus"]]
            lines[shown] = ", ".join(texts) or "none"
        elif isinstance(value, dict):
            lines[shown] = ", ".join(f"{key} {part}" for key, part in value.items())
        else:
            lines[shown] = "none" if value is None else str(value)
    return {"run": run.name, "lines": {one_line(name): shortened(value, LONG) for name, value in lines.items()}}


def machine_line(run: NamedRun) -> str:
    """Name the machine, the software and the day of a run in a line."""
    environment = run.description.get("environment", {})
    commit = (environment.get("git") or {}).get("commit") or ""
    gpus = ", ".join(gpu["name"] for gpu in environment.get("gpus") or [])
    parts = [
        environment.get("cpu"),
        gpus,
        f"torch {environment['torch']}" if environment.get("torch") else "",
        f"commit {commit[:7]}" if commit else "",
    ]
    parts.append(str(run.description.get("started_at", ""))[:10])
    return f"{run.name}: {one_line(', '.join(str(part) for part in parts if part)) or 'the machine is not known'}."


def markdown_cell(text: str) -> str:
    """Return the text of a cell of a Markdown table: one line without columns, HTML, links and formulas of its own."""
    line = one_line(text).replace("|", "/").replace("<", "&lt;").replace("](", "] (")
    return line if OWN_CELL.fullmatch(line) else defused(line)


@functools.cache
def _templates() -> jinja2.Environment:
    """The templates: HTML is escaped, in Markdown the cells of tables are; a missing variable is an error."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("mann_bench.reports.html"),
        autoescape=lambda name: bool(name and ".html" in name),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["markdown_cell"] = markdown_cell
    return templates
