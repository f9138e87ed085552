"""A study: models are trained on tasks, each with the best point of a grid, which is chosen by seeds that are not reported. A TOML file.

name = "mine"
description = "..."
models = ["sam", "dam"]          # variants as ntm-checkpointed
equal_memory = true              # models with slots get as many as fit the bytes of SAM, in each task and arm
[fixed]                          # settings of every run: any of SETTINGS
hidden = 100
[[task]]                         # at least one, each with settings of its own
task = "recall"
levels = [3, 6]
sequences = "250k"               # the budget of a run: sequences, seconds ("10m") or both
[grid]                           # every model gets its best point of the product of these lists
learning_rate = [1e-3, 3e-3]
[selection]                      # needed if there is a grid
seeds = [1000, 1001]
by = "goal"                      # or "validation": see `selection.py`
[report]
seeds = "0-9"                    # or a list; none of the selection's
[[arm]]                          # what is compared within a model; each arm gets its own best point
name = "K 8"
models = ["sam"]                 # instead of the study's
reads = 8                        # any of VARIED
options = { erase = "gated" }    # arguments of the models that have them (`data/option_axes.py`); in a grid with lists of values
grid = { learning_rate = [1e-3] }  # instead of the study's
"""

import itertools
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from mann_bench.data.errors import UsageError, did_you_mean, first_error
from mann_bench.data.fields import JsonObject
from mann_bench.data.option_axes import NO_OPTIONS, Lacking, OptionAxes, parse_table
from mann_bench.data.registry import find_model, split_variant
from mann_bench.data.suite import NAME
from mann_bench.data.toml_files import load_text, parse_toml, shipped_names
from mann_bench.data.units import parse_seconds, parse_size
from mann_bench.learn.record import LearningCase, Settings

FOLDER = "learning"  # of the shipped studies, in `mann_bench.suites`
OF_THE_MACHINE = ("device", "threads", "memory_bytes")  # options of the command
QUESTION = (  # settings that all runs of a task share: they say what is learned, and when it counts as learned
    *("task_options", "levels", "curriculum", "curriculum_threshold", "patience", "first_level", "goal", "batch"),
    *("sequences", "seconds", "stop_at_goal"),
)
SETTINGS = tuple(n for n in LearningCase.model_fields if n not in ("task", "data", "model", "variant", "seed", *OF_THE_MACHINE))
VARIED = tuple(name for name in SETTINGS if name not in QUESTION)  # settings that a grid or an arm may vary
TYPES: dict[str, TypeAdapter[object]] = {
    name: TypeAdapter(Annotated[(field.annotation, field)])  # type: ignore[arg-type]
    for name, field in LearningCase.model_fields.items()
    if name != "options"  # which `parse_table` reads
}
MOST_RUNS = 100_000

Grid = Settings  # lists of values; of `options` an `OptionAxes`


def _parse_seeds(value: object) -> object:
    """`"0-9"` -> (0, ..., 9)."""
    if not isinstance(value, str):
        return value
    first, _, last = value.partition("-")
    if not (first.strip().isdigit() and last.strip().isdigit()) or not int(first) <= int(last) < int(first) + MOST_RUNS:
        raise ValueError('expected a list of whole numbers, or FIRST-LAST as "0-9"')
    return tuple(range(int(first), int(last) + 1))


Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], BeforeValidator(_parse_seeds), Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Selection(_Table):
    """How a point of the grid is chosen: by which seeds, and by what."""

    seeds: Seeds
    by: Literal["validation", "goal"] = "validation"


class Report(_Table):
    """The seeds that are reported."""

    seeds: Seeds


class StudyTask(_Table):
    """A task, and settings of all runs on it."""

    task: str = Field(min_length=1)
    settings: Settings = Field(default_factory=dict)


class Arm(_Table):
    """Settings that are compared within a model. `models` and `grid`: instead of the study's."""

    name: str = Field("", max_length=40)
    models: tuple[str, ...] | None = None
    settings: Settings = Field(default_factory=dict)
    grid: Grid | None = None


class Study(_Table):
    """A study as its file says; `text` is the file."""

    name: str
    description: str = ""
    models: tuple[str, ...] = ()
    equal_memory: bool = Field(False, strict=True)
    fixed: Settings = Field(default_factory=dict)
    tasks: tuple[StudyTask, ...]
    grid: Grid = Field(default_factory=dict)
    arms: tuple[Arm, ...] = (Arm(),)
    selection: Selection | None = None
    report: Report
    text: str = ""

    def models_of(self, arm: Arm) -> tuple[str, ...]:
        """The models of an arm."""
        return self.models if arm.models is None else arm.models

    def grid_of(self, arm: Arm) -> Grid:
        """The grid of an arm."""
        return self.grid if arm.grid is None else arm.grid

    def points_of(self, arm: Arm, model: str) -> list[Settings]:
        """The points of the grid of an arm for a model, in the order of the file; without a grid the one that changes nothing.

        A model has those options of the grid that it takes.
        """
        grid = {name: values.points(model) if isinstance(values, OptionAxes) else values for name, values in self.grid_of(arm).items()}
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]

    def options_of(self, arm: Arm, task: StudyTask) -> OptionAxes:
        """The options of a task's runs that no grid varies: an arm's go before the task's, and these before the fixed ones."""
        options: OptionAxes = self.fixed.get("options", NO_OPTIONS)
        return options.merged(task.settings.get("options", NO_OPTIONS)).merged(arm.settings.get("options", NO_OPTIONS))

    def lacking(self) -> list[Lacking]:
        """Options with the models that have them not and are trained without; UsageError for one that no model of its table takes."""
        models = [model for arm in self.arms for model in self.models_of(arm)]
        found = []
        for place, table in (("[fixed]", self.fixed), *(("[[task]]", entry.settings) for entry in self.tasks), ("[grid]", self.grid)):
            found += table.get("options", NO_OPTIONS).check(place, models)
        for arm in self.arms:
            place = f"[[arm]] {arm.name}".rstrip()
            for part, table in ((place, arm.settings), (f"{place}: grid", arm.grid or {})):
                found += table.get("options", NO_OPTIONS).check(part, self.models_of(arm))
        return list(dict.fromkeys(found))

    def run_counts(self) -> tuple[int, int]:
        """How many runs choose, and how many are reported."""
        selection_seeds = len(self.selection.seeds) if self.selection else 0
        points = [len(self.points_of(arm, model)) for arm in self.arms for model in self.models_of(arm)]
        choosing = sum(count for count in points if count > 1) * selection_seeds
        return choosing * len(self.tasks), len(points) * len(self.tasks) * len(self.report.seeds)


def study_names() -> list[str]:
    """Names of the studies that come with the package."""
    return shipped_names(FOLDER)


def load_study(name: str) -> Study:
    """Load a study of the package by name, or a TOML file by path; UsageError that names the file and the key at fault."""
    return parse_study(load_text("study", name, FOLDER), name)


def parse_study(text: str, source: str) -> Study:
    """Parse the TOML text of a study; `source` is its name in error messages."""
    raw = parse_toml("study", text, source)
    known = ("name", "description", "models", "equal_memory", "fixed", "task", "grid", "arm", "selection", "report")
    for key in raw:
        if key not in known:
            expected = "name, description, models, equal_memory, [fixed], [[task]], [grid], [selection], [report], [[arm]]"
            raise UsageError(f"{source}: unknown key {key!r}; expected {expected}{did_you_mean(key, list(known))}")
    name = raw.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UsageError(f"{source}: name: expected letters, digits, '-', '_' and '.', 100 at most, got {str(name)[:120]!r}")
    for key in ("task", "arm"):
        if not isinstance(raw.get(key, []), list) or not all(isinstance(table, dict) for table in raw.get(key, [])):
            raise UsageError(f"{source}: [[{key}]]: expected tables, got {raw[key]!r}; write [[{key}]] above each")
    if not raw.get("task"):
        raise UsageError(f"{source}: expected at least one [[task]] table, got none")
    raw["tasks"] = [_with_settings(f"{source}: [[task]]", table, ("task",), SETTINGS) for table in raw.pop("task")]
    arms = raw.pop("arm", [])
    raw |= {"arms": [_with_settings(f"{source}: [[arm]]", table, ("name", "models", "grid"), VARIED) for table in arms]} if arms else {}
    raw["fixed"] = _settings(f"{source}: [fixed]", raw.get("fixed", {}), SETTINGS)
    raw["grid"] = _grid(f"{source}: [grid]", raw.get("grid", {}))
    try:
        study = Study(**raw, text=text)
    except ValidationError as error:
        raise UsageError(f"{source}: {first_error(error)}") from error
    _check(study, source)
    return study


def _with_settings(place: str, table: JsonObject, own: tuple[str, ...], settings: tuple[str, ...]) -> JsonObject:
    """Split a table into its own keys and the settings in it."""
    split = {key: table[key] for key in own if key in table}
    if "grid" in split:
        split["grid"] = _grid(f"{place} grid", split["grid"])
    rest = {key: value for key, value in table.items() if key not in own}
    return split | {"settings": _settings(place, rest, settings, also=own)}


def _settings(place: str, table: object, allowed: tuple[str, ...], also: tuple[str, ...] = ()) -> Settings:
    """Check a table of settings; UsageError naming the one at fault."""
    if not isinstance(table, dict):
        raise UsageError(f"{place}: expected a table, got {table!r}")
    return {name: _value(place, name, value, allowed, also) for name, value in _renamed(place, table).items()}


def _renamed(place: str, table: JsonObject) -> JsonObject:
    """The table with the present name of `options`, which were called `model_options`."""
    if "model_options" not in table:
        return table
    if "options" in table:
        raise UsageError(f"{place}: expected options once, got them also by their former name, model_options; keep options")
    return {"options" if name == "model_options" else name: value for name, value in table.items()}


def _grid(place: str, table: object) -> Grid:
    """Check a grid: a list of at least one value for each setting."""
    if not isinstance(table, dict):
        raise UsageError(f"{place}: expected a table, got {table!r}")
    table = _renamed(place, table)
    for name, values in table.items():
        if name != "options" and (not isinstance(values, list) or not values):
            raise UsageError(f"{place}: {name}: expected a list of at least one value, got {values!r}")
    return {
        name: parse_table(place, values) if name == "options" else [_value(place, name, value, VARIED) for value in values]
        for name, values in table.items()
    }


def _value(place: str, name: str, value: object, allowed: tuple[str, ...], also: tuple[str, ...] = ()) -> object:
    """The value of a setting, of its type; UsageError for another name or type."""
    if name not in allowed:
        if name in QUESTION:
            raise UsageError(f"{place}: {name}: expected it equal in all runs of a task, got it here; put it into [fixed] or [[task]]")
        if name in OF_THE_MACHINE:
            raise UsageError(f"{place}: {name}: expected it as an option of the command, got it here; it is the machine's, not the study's")
        known = [*also, *allowed]
        raise UsageError(f"{place}: unknown key {name!r}; expected {', '.join(known)}{did_you_mean(name, known)}")
    if name == "options":
        return parse_table(place, value, swept=False)
    try:
        if name in ("slots", "sequences") and isinstance(value, str):
            value = parse_size(value)
        if name == "seconds" and isinstance(value, str):
            value = parse_seconds(value)
        if isinstance(value, bool) and name != "stop_at_goal":
            raise UsageError(f"expected a number, a text or a list, got {value!r}")
        return TYPES[name].validate_python(value)
    except UsageError as error:
        raise UsageError(f"{place}: {name}: {error}") from error
    except ValidationError as error:
        raise UsageError(f"{place}: {name}: {first_error(error)}") from error


def _single(table: Settings) -> list[str]:
    """The settings of a table, each option as one: `options.erase`."""
    options: OptionAxes = table.get("options", NO_OPTIONS)
    return [*(name for name in table if name != "options"), *(f"options.{name}" for name in sorted(options.names()))]


def _check(study: Study, source: str) -> None:
    """Raise UsageError if tables of a study contradict each other."""
    for arm in study.arms:
        of_arm = f"[[arm]] {arm.name!r}: " if len(study.arms) > 1 else ""
        models = study.models_of(arm)
        if not models:
            raise UsageError(f'{source}: {of_arm}models: expected at least one, as models = ["sam", "dam"], got none')
        if len(set(models)) < len(models):
            raise UsageError(f"{source}: {of_arm}models: expected each once, got {', '.join(models)}")
        for model in models:
            find_model(split_variant(model)[0])
        tables = (arm.settings, study.fixed, *(entry.settings for entry in study.tasks))
        fixed = {name for table in tables for name in _single(table)}
        varied = _single(study.grid_of(arm))
        if both := [name for name in varied if name in fixed]:
            raise UsageError(f"{source}: {of_arm}{both[0]}: expected one place, got it in a grid and as a fixed value; remove one of them")
        if study.selection is None and any(len(study.points_of(arm, model)) > 1 for model in models):
            raise UsageError(f"{source}: [selection]: expected seeds that choose from the grid, got none; add the table or remove the grid")
    try:
        study.lacking()
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error
    names = [arm.name for arm in study.arms]
    if len(set(names)) < len(names) or (len(names) > 1 and "" in names):
        raise UsageError(f"{source}: [[arm]]: expected a name of its own for each, got {', '.join(map(repr, names))}")
    seeds = (*(study.selection.seeds if study.selection else ()), *study.report.seeds)
    if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise UsageError(
            f"{source}: seeds: expected each once, in [selection] or in [report], got {twice[0]} twice; "
            "a seed that has chosen a point of the grid would flatter it in the report"
        )
    if sum(study.run_counts()) > MOST_RUNS:
        raise UsageError(f"{source}: expected at most {MOST_RUNS:,} runs, got {sum(study.run_counts()):,}; shorten the grid or the seeds")
