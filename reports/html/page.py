"""Write pages: figures as files and as SVG, templates filled, the environment of a run as lines."""

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from mann_bench import __version__
from mann_bench.data.files import write_atomically
from mann_bench.data.text import defused, one_line, shortened
from mann_bench.data.units import format_bytes
from mann_bench.reports.html.plots import save, svg_element
from mann_bench.reports.html.table import LONG

OWN_CELL = re.compile(r"[-+]?[\d.,]+( \w+)?|-")  # a number with its unit, or nothing measured: no formula although it may begin like one


class Plot(NamedTuple):
    """A figure to be shown on a page; `key` is the stem of its files."""

    key: str
    title: str
    figure: Figure


def save_plots(plots: Iterable[Plot], out: Path, *, where: str, suffix: str) -> list[dict[str, str]]:
    """Write each plot to `out/plots/KEY+suffix.{svg,png}`; return title (with `where` appended), SVG and PNG path for the templates."""
    (out / "plots").mkdir(parents=True, exist_ok=True)
    shown = []
    for key, title, figure in plots:
        svg = svg_element(save(figure, out / "plots" / (key + suffix)))
        shown.append({"title": f"{title}, {where}", "svg": svg, "file": f"plots/{key}{suffix}.png"})
    return shown


def write_page(path: Path, context: dict[str, Any]) -> Path:
    """Fill the template that is called like the file (`report.html.j2` for `report.html`) and write it; return the path."""
    write_atomically(path, _templates().get_template(f"{path.name}.j2").render(context, version=__version__))
    return path


def environment_lines(run: dict[str, Any]) -> dict[str, Any]:
    """List the environment of a run (`run.json` and its name) as names and values to be shown."""
    facts: dict[str, Any] = run.get("environment", {})
    lines = {"suite": run.get("suite", "unknown"), "started": run.get("started_at", "unknown")}
    for name, value in facts.items():
        if name.endswith("_bytes"):
            value = None if value is None else format_bytes(value)
            name = name.removesuffix("_bytes").replace("_", " ")
        if name == "gpus":
            value = ", ".join(f"{gpu['name']} ({gpu['uuid']}, driver {gpu['driver']})" for gpu in value) or "none"
        if isinstance(value, dict):
            value = ", ".join(f"{key} {part}" for key, part in value.items())
        lines[name.replace("_", " ")] = "none" if value is None else str(value)
    return {"run": run["run"], "lines": {one_line(name): shortened(value, LONG) for name, value in lines.items()}}


def markdown_cell(text: str) -> str:
    """Return the text of a cell of a Markdown table: one line without columns, HTML, links and formulas of its own."""
    line = one_line(text).replace("|", "/").replace("<", "&lt;").replace("](", "] (")
    return line if OWN_CELL.fullmatch(line) else defused(line)


@functools.cache
def _templates() -> Environment:
    """The templates: HTML is escaped, in Markdown the cells of tables are; a missing variable is an error."""
    templates = Environment(
        loader=PackageLoader("mann_bench.reports.html"),
        autoescape=lambda name: bool(name and ".html" in name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["markdown_cell"] = markdown_cell
    return templates
