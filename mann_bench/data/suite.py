"""A suite: a TOML file of axes, fixed values and a budget, which expands to cases.

name = "quick"
description = "..."
interleave = ["threads"]     # cases that differ in these fields are timed in turn, as are those that differ in CURVE
[fixed]                      # any field of a case
steps = 16
[[sweep]]                    # the product of all lists; `models` may name variants (ntm-checkpointed)
models = ["ntm", "sam"]
slots = ["64", "1k"]
options = { erase = ["always", "gated"] }  # arguments of the models that have them: `data/option_axes.py`
[budget]
case_seconds = 60            # limit of one case, everything included
memory = "8G"                # limit of one case, above what an idle process holds
"""

import itertools
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError, did_you_mean, first_error
from mann_bench.data.fields import Count
from mann_bench.data.option_axes import NO_OPTIONS, Lacking, OptionAxes, lacking_sentences, parse_table, spread
from mann_bench.data.options import Options
from mann_bench.data.registry import check_name, find_model, split_variant
from mann_bench.data.toml_files import load_text, parse_toml, shipped_names
from mann_bench.data.units import parse_size

NAME = re.compile(r"(?!\.)[\w.-]{1,100}")  # of a suite: it names the folder of its results
SWEPT = ("models", *(name for name in Case.model_fields if name not in ("suite", "model")))  # keys of [fixed] and [[sweep]]


class Budget(BaseModel):
    """Limits of one case, and how precisely to time it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case_seconds: FiniteFloat = Field(120, gt=0, description="limit of one case, everything included")
    timing_seconds: FiniteFloat = Field(4, gt=0, description="samples are taken for at most this long, over all rounds")
    memory: Count = Field(8 * 2**30, description="limit of one case, in bytes above what an idle process holds")
    rounds: Count = Field(2, description="in each the cases of a comparison are timed in turn")
    cache: Literal["warm", "flushed"] = Field("warm", description="flushed: the last-level cache is emptied before each pass")
    target_ci: FiniteFloat = Field(0.05, gt=0, description="relative half-width of the median's 95% interval at which timing stops")

    @field_validator("memory", mode="before")
    @classmethod
    def _size(cls, value: str | int) -> int:
        return parse_size(value)


class Suite(BaseModel):
    """A named list of cases with one budget. `text` is the file as written; cases that differ in `interleave` are timed in turn.

    `lacking`: options that were asked for, each with a model that has it not.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    description: str = ""
    cases: list[Case]
    budget: Budget = Field(default_factory=Budget)
    text: str = ""
    interleave: tuple[str, ...] = ()
    lacking: tuple[Lacking, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What is to be said before the cases run: which models run without an option, as they have it not."""
        return lacking_sentences(self.lacking, {case.model for case in self.cases})


def suite_names() -> list[str]:
    """Names of the suites that come with the package."""
    return shipped_names("")


def load_suite(name: str) -> Suite:
    """Load a suite of the package by name, or a TOML file by path; UsageError that names the file and the key at fault."""
    return parse_suite(load_text("suite", name, ""), name)


def parse_suite(text: str, source: str) -> Suite:
    """Parse the TOML text of a suite; `source` is its name in error messages."""
    raw = parse_toml("suite", text, source)
    for key in raw:
        if key not in ("name", "description", "interleave", "fixed", "sweep", "budget"):
            raise UsageError(f"{source}: unknown key {key!r}; expected name, description, interleave, [fixed], [[sweep]], [budget]")
    name, sweeps, fixed, limits = (raw.get(key, default) for key, default in (("name", ""), ("sweep", []), ("fixed", {}), ("budget", {})))
    if not isinstance(name, str) or not isinstance(sweeps, list) or not name or not sweeps:
        raise UsageError(f"{source}: expected a name and at least one [[sweep]] table")
    if not NAME.fullmatch(name):
        raise UsageError(f"{source}: name: expected letters, digits, '-', '_' and '.', 100 at most, got {name[:120]!r}")
    for key, table in (("[fixed]", fixed), ("[budget]", limits), *(("[[sweep]]", sweep) for sweep in sweeps)):
        if not isinstance(table, dict):
            raise UsageError(f"{source}: {key}: expected a table, got {table!r}")
    try:
        of_all = parse_table(f"{source}: [fixed]", fixed.pop("options", {}))
        parts = [_expand(name, fixed, sweep, source) for sweep in sweeps]
        budget = Budget(**limits)
    except ValidationError as error:
        raise UsageError(f"{source}: {first_error(error)}") from error
    lacking = of_all.check(f"{source}: [fixed]", [case.model for part in parts for case in part.cases])
    cases: list[Case] = []
    for part in parts:
        lacking += part.options.check(f"{source}: [[sweep]]", [case.model for case in part.cases])
        cases += spread(part.cases, of_all.merged(part.options))
    interleave = raw.get("interleave", [])
    if not isinstance(interleave, list) or not all(isinstance(field, str) and field in Case.model_fields for field in interleave):
        raise UsageError(f"{source}: interleave: expected a list of fields of a case, got {interleave!r}")
    unique = list({case.case_id: case for case in cases}.values())
    description = str(raw.get("description", ""))
    return Suite(
        name=name,
        description=description,
        cases=unique,
        budget=budget,
        text=text,
        interleave=tuple(interleave),
        lacking=tuple(dict.fromkeys(lacking)),
    )


class _Part(NamedTuple):
    """The cases of a [[sweep]] without options, and its own options."""

    cases: list[Case]
    options: OptionAxes


def _expand(suite: str, fixed: Mapping[str, object], sweep: Mapping[str, object], source: str) -> _Part:
    """Expand the axes of a [[sweep]] and parse its options."""
    axes = {**fixed, **sweep}
    for key in axes:
        if key not in SWEPT:
            known = f"{', '.join(SWEPT)}{did_you_mean(key, list(SWEPT))}"
            raise UsageError(f"{source}: unknown key {key!r}; expected a field of a case: {known}")
    options = parse_table(f"{source}: [[sweep]]", axes.pop("options", {}))
    if "models" not in axes or "slots" not in axes:
        raise UsageError(f"{source}: each [[sweep]] needs models and slots")
    lists = {}
    for key, axis in axes.items():
        parts: list[object] = axis if isinstance(axis, list) else [axis]
        lists[key] = values = [part for part in parts if isinstance(part, str | int) and not isinstance(part, bool)]
        if not values or len(values) < len(parts):
            raise UsageError(f"{source}: {key}: expected a text, a whole number or a list of these, got {axis!r}")
    names = lists.pop("models")
    cases = []
    for slots, name, *rest in itertools.product(lists.pop("slots"), names, *lists.values()):
        check_name(str(name))
        model, variant = split_variant(str(name))
        find_model(model)
        fields = dict(zip(lists, rest, strict=True))
        cases.append(Case.model_validate({"suite": suite, "model": model, "variant": variant, "slots": parse_size(slots), **fields}))
    return _Part(cases, options)


def select(suite: Suite, *, models: list[str], slots: list[int], changes: Mapping[str, object], options: OptionAxes = NO_OPTIONS) -> Suite:
    """Change a suite.

    Args:
        models: keep only these; one that the suite lacks gets the sizes of all its cases.
        slots: memory sizes instead of the suite's.
        changes: new values of fields in all cases.
        options: values of options of all cases whose model has them, instead of the suite's.
    """
    cases, lacking = suite.cases, [*suite.lacking]
    if models:
        selected = []
        for name in models:
            check_name(name)
            model, variant = split_variant(name)
            find_model(model)
            existing = [case for case in cases if (case.model, case.variant) == (model, variant)]
            changed = {"model": model, "variant": variant, "kernels": "auto", "index": "exact", "options": Options()}
            template = dict.fromkeys(case.model_copy(update=changed) for case in cases)
            selected += existing or sorted(template, key=lambda case: case.slots)
        cases = selected
    if slots:
        templates = {case.model_copy(update={"slots": slots[0]}): None for case in cases}
        cases = [case.model_copy(update={"slots": size}) for size in slots for case in templates]
    try:
        cases = [Case.model_validate({**case.model_dump(), **changes}) for case in cases]
    except ValidationError as error:
        raise UsageError(f"--{first_error(error)}") from error
    lacking += options.check("--option", [case.model for case in cases])
    unique = {case.case_id: case for case in spread(cases, options)}
    return suite.model_copy(update={"cases": list(unique.values()), "lacking": tuple(dict.fromkeys(lacking))})
