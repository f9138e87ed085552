"""The format of suites as a JSON schema, for editors: made of the fields of a case and of a budget, so that it cannot say anything else.

`mann_bench/suites/formats/suite.json` holds it; a TOML file that begins with `#:schema` and its address is completed and checked by editors
(Taplo, Even Better TOML). `mann-bench new` writes such a file. The format of studies is made in `learn/formats.py`, of the same parts.
"""

from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path

from pydantic import BaseModel

from mann_bench.data.case import CURVE, Case
from mann_bench.data.fields import WORD, JsonObject
from mann_bench.data.suite import NAME, SWEPT, Budget
from mann_bench.data.units import SIZE

Schema = JsonObject

FOLDER = "formats"  # in `mann_bench.suites`
DIALECT = "http://json-schema.org/draft-07/schema#"
MODELS = "built-in names or variants (ntm-checkpointed), entry points, or package.module:factory"
OPTIONS = "arguments of the models that have them (`mann-bench list options`); in a table of a model's name, of that model alone"
SIZES = ("slots", "memory", "sequences")  # fields that may be written as "64k"
VALUE: Schema = {"type": ["boolean", "integer", "number", "string"]}


def suite_schema() -> Schema:
    """The format of a suite."""
    fields = {name: axis(name, field) for name, field in case_fields().items()}
    sweep = table(fields, "the product of all lists; models and slots stand here or in [fixed]")
    return {
        "$schema": DIALECT,
        "title": "suite of mann-bench",
        **table(
            {
                "name": {"type": "string", "pattern": f"^{NAME.pattern}$", "description": "of the suite, and of the folder of its results"},
                "description": {"type": "string", "description": "what `mann-bench list suites` shows"},
                "interleave": {
                    "type": "array",
                    "items": {"enum": [*Case.model_fields]},
                    "description": f"cases that differ in these fields are timed in turn, as are those that differ in {', '.join(CURVE)}",
                },
                "fixed": {**sweep, "description": "values of all sweeps, which may have others"},
                "sweep": {"type": "array", "minItems": 1, "items": sweep},
                "budget": table(properties_of(Budget), "limits of one case, and how precisely to time it"),
            },
            "",
            required=["name", "sweep"],
        ),
    }


def case_fields() -> dict[str, Schema]:
    """The schema of each key of [fixed] and [[sweep]], for a single value."""
    fields = {"models": {"description": MODELS, "type": "string"}, **properties_of(Case)}
    return {name: fields[name] for name in SWEPT}


def table(properties: Mapping[str, Schema], description: str, *, required: Collection[str] = ()) -> Schema:
    """The schema of a TOML table that has no other keys."""
    schema: Schema = {"description": description} if description else {}
    return schema | {
        "type": "object",
        "additionalProperties": False,
        "properties": dict(properties),
        **({"required": [*required]} if required else {}),
    }


def axis(name: str, field: Schema) -> Schema:
    """The schema of a value or a list of values; `options` hold lists themselves."""
    if name == "options":
        return options(swept=True)
    outer = {key: value for key, value in field.items() if key in ("description", "default")}
    value = {key: value for key, value in field.items() if key not in outer}
    return outer | {"anyOf": [value, {"type": "array", "minItems": 1, "items": value}]}


def options(*, swept: bool) -> Schema:
    """The schema of `options`: values of models that have them, and tables of single models."""
    several: Schema = {"anyOf": [VALUE, {"type": "array", "minItems": 1, "items": VALUE}]} if swept else VALUE
    one = {"type": "object", "additionalProperties": several}
    return {
        "description": OPTIONS,
        "type": "object",
        "additionalProperties": {"anyOf": [*(several["anyOf"] if swept else [VALUE]), one]},
    }


def properties_of(model: type[BaseModel]) -> dict[str, Schema]:
    """The schema of each field of a record as a file holds it: sizes may be texts, nothing is null."""
    found: dict[str, Schema] = {}
    for name, schema in model.model_json_schema(by_alias=False)["properties"].items():
        inner: Schema = next((part for part in schema.get("anyOf", ()) if part.get("type") != "null"), {})
        plain = {**schema, **inner}
        kept = {key: plain[key] for key in plain if key not in ("title", "anyOf", "prefixItems")}
        for limit in ("minimum", "exclusiveMaximum"):
            if abs(plain.get(limit, 0)) == WORD:  # what a word of memory holds
                del kept[limit]
        if kept.get("default", 0) is None:
            del kept["default"]
        if name in SIZES:
            kept["type"] = ["integer", "string"]
            kept["pattern"] = f"^{SIZE.pattern}$"
        found[name] = kept
    return found


def format_file(name: str) -> Path:
    """The file of a format of the package: `suite` or `study`."""
    return Path(str(resources.files("mann_bench.suites").joinpath(FOLDER, f"{name}.json"))).absolute()
