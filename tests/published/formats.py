"""The formats of suites and studies: JSON schemas of the package, and the tables of docs/suites.md, both made of the code's own fields.

python -m tests.published.formats          writes the schemas; `make numbers` writes the tables, too
"""

import json
from collections.abc import Sequence

from mann_bench.data.formats import Schema, case_fields, format_file, properties_of, suite_schema
from mann_bench.data.suite import Budget
from mann_bench.data.units import format_slots
from mann_bench.learn.formats import setting_fields, study_schema
from mann_bench.learn.study import QUESTION

FORMATS = {"suite": suite_schema, "study": study_schema}
KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false", "array": "list", "object": "table"}


def schema_text(name: str) -> str:
    """The content of the file of a schema."""
    return json.dumps(FORMATS[name](), indent=1) + "\n"


def key_table(name: str) -> str:
    """The keys of a file outside of its tables, and what they hold."""
    schema = FORMATS[name]()
    rows = [
        (_key(key, field), "yes" if key in schema["required"] else "", str(field.get("description") or field["items"]["description"]))
        for key, field in schema["properties"].items()
    ]
    return _markdown(("key", "needed", "what it holds"), rows)


def case_table() -> str:
    """The fields of a case as keys of [fixed] and [[sweep]]."""
    return _markdown(
        ("key", "values", "default", "meaning"), [(f"`{name}`", *_facts(name, field)) for name, field in case_fields().items()]
    )


def budget_table() -> str:
    """The keys of [budget]."""
    return _markdown(
        ("key", "values", "default", "meaning"), [(f"`{name}`", *_facts(name, field)) for name, field in properties_of(Budget).items()]
    )


def setting_table() -> str:
    """The settings of a study."""
    rows = []
    for name, field in setting_fields().items():
        values, default, meaning = _facts(name, field)
        rows.append((f"`{name}`", values, default, "`[fixed]`, `[[task]]`" if name in QUESTION else "all tables", meaning))
    return _markdown(("key", "values", "default", "in", "meaning"), rows)


def _key(key: str, field: Schema) -> str:
    return f"`[[{key}]]`" if field.get("items", {}).get("type") == "object" else f"`[{key}]`" if field["type"] == "object" else f"`{key}`"


def _facts(name: str, field: Schema) -> tuple[str, str, str]:
    """Values, default and meaning of a key."""
    types = field["type"] if isinstance(field.get("type"), list) else [field.get("type", "")]
    values = ", ".join(map(str, field["enum"])) if "enum" in field else " or ".join(KINDS[kind] for kind in types)
    if "minimum" in field:
        values += f" from {field['minimum']}"
    if "exclusiveMinimum" in field:
        values += f" above {field['exclusiveMinimum']}"
    if "exclusiveMaximum" in field:
        values += f" below {field['exclusiveMaximum']}"
    if name in ("slots", "memory", "sequences"):
        values = 'whole number from 1, or text as "64k"'
    if name == "seconds":
        values = 'number above 0, or text as "10m"'
    default = field.get("default", "")
    text = format_slots(default) if name == "memory" else str(default).lower() if isinstance(default, bool) else str(default)
    return values, text, field.get("description", "")


def _markdown(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    """Run as a program."""
    for name in FORMATS:
        format_file(name).write_text(schema_text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
