"""What all pages share: their templates, and the environment of a run as lines."""

import functools
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mann_bench.data.units import format_bytes


@functools.cache
def templates() -> Environment:
    """HTML is escaped, Markdown is not; what a template asks for and is not given is an error."""
    return Environment(
        loader=PackageLoader("mann_bench.reports.html"),
        autoescape=lambda name: bool(name and ".html" in name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def environment_lines(entry: dict[str, Any]) -> dict[str, Any]:
    """The fingerprint as name and value."""
    facts: dict[str, Any] = entry.get("environment", {})
    shown = {"suite": entry.get("suite", "unknown"), "started": entry.get("started_at", "unknown")}
    for name, value in facts.items():
        if name.endswith("_bytes"):
            value = format_bytes(value) if value else None
            name = name.removesuffix("_bytes").replace("_", " ")
        if name == "gpus":
            value = ", ".join(f"{gpu['name']} ({gpu['uuid']}, driver {gpu['driver']})" for gpu in value) or "none"
        if isinstance(value, dict):
            value = ", ".join(f"{key} {inner}" for key, inner in value.items())
        shown[name.replace("_", " ")] = "none" if value is None else str(value)
    return {"run": entry["run"], "lines": shown}
