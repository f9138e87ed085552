"""The format of studies as a JSON schema for editors, made of the fields of a training run; that of suites is in `data/formats.py`."""

from mann_bench.data.formats import DIALECT, Schema, options, properties_of, table
from mann_bench.data.formats import MODELS as NAMES
from mann_bench.data.suite import NAME
from mann_bench.data.units import TIME
from mann_bench.learn.plan import default_settings
from mann_bench.learn.record import LearningCase
from mann_bench.learn.study import SETTINGS, VARIED, Selection

MODELS: Schema = {
    "type": "array",
    "minItems": 1,
    "uniqueItems": True,
    "items": {"type": "string"},
    "description": NAMES,
}
COMPUTED = {"slots": "enough for all that a sequence writes", "levels": "the task's", "first_level": "the lowest of `levels`"}
EQUAL_MEMORY = "true: in each task and arm, models with slots get as many as fit the bytes of SAM"
SEEDS: Schema = {
    "anyOf": [
        {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": "integer", "minimum": 0}},
        {"type": "string", "pattern": r"^\s*\d+\s*-\s*\d+\s*$"},
    ],
    "description": 'whole numbers, each once, or FIRST-LAST as "0-9"',
}


def study_schema() -> Schema:
    """The format of a study."""
    settings = setting_fields()
    varied = {name: settings[name] for name in VARIED}
    lists = {name: {"type": "array", "minItems": 1, "items": field} for name, field in varied.items() if name != "options"}
    grid = table({**lists, "options": options(swept=True)}, "every model gets its best point of the product of these lists")
    seeds = {"seeds": SEEDS}
    by = {
        "by": properties_of(Selection)["by"] | {"description": "goal: most seeds there, then fewest sequences; validation: smallest error"}
    }
    arm = {"name": {"type": "string", "maxLength": 40, "description": "of its own"}, "models": MODELS, "grid": grid, **varied}
    task = {"task": properties_of(LearningCase)["task"], **settings}
    return {
        "$schema": DIALECT,
        "title": "study of mann-bench",
        **table(
            {
                "name": {"type": "string", "pattern": f"^{NAME.pattern}$", "description": "of the study, and of the folder of its results"},
                "description": {"type": "string", "description": "what `mann-bench list studies` shows"},
                "models": MODELS,
                "equal_memory": {"type": "boolean", "default": False, "description": EQUAL_MEMORY},
                "fixed": table(settings, "settings of every run"),
                "task": {
                    "type": "array",
                    "minItems": 1,
                    "items": table(task, "a task, with settings of its runs", required=["task"]),
                },
                "grid": grid,
                "selection": table(
                    {**seeds, **by}, "needed if there is a grid: its best point is chosen by these seeds", required=["seeds"]
                ),
                "report": table(seeds, "what is reported; none of the seeds that choose", required=["seeds"]),
                "arm": {"type": "array", "items": table(arm, "what is compared within a model, each with its own best point")},
            },
            "",
            required=["name", "task", "report"],
        ),
    }


def setting_fields() -> dict[str, Schema]:
    """The schema of each setting, for a single value, with the defaults of a task that has none of its own."""
    fields = properties_of(LearningCase)
    for name, value in default_settings("").items():
        fields[name]["default"] = value
    for name, text in COMPUTED.items():
        fields[name].pop("default", None)
        fields[name]["description"] += f"; by default {text}"
    fields["options"] = options(swept=False)
    fields["seconds"] |= {"type": ["number", "string"], "pattern": f"^{TIME.pattern}$"}
    fields["levels"]["items"] = {"type": "integer", "minimum": 1}
    return {name: fields[name] for name in SETTINGS}
