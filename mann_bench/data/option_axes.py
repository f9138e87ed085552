"""Options that are swept: tables `options` of suites and studies, and `--option` of the command line, by one parser and one rule.

    options = { erase = ["always", "gated"] }        # of every model that has it; a list is swept
    options = { sam = { write_heads = 1 } }          # of one model and its variants, which must have it
    options.sam.write_heads = 1                      # the same
    --option erase=always,gated --option sam.write_heads=1

An option that is not of one model goes to each model of the table that has it. The others run once, without it; if no model has it, that
is an error. Which options a model of the user's has is known in a process of its own only (`run/own_models.py`): it is given all of them.
"""

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError, did_you_mean
from mann_bench.data.options import Options, Value, check_option_name, check_value, parse_value
from mann_bench.data.registry import SHIPPED, find_model, split_variant

Values = dict[str, tuple[Value, ...]]
Lacking = tuple[str, str]  # the name of an option, and of a model that has it not
S = TypeVar("S")

_COMMAS = re.compile(r'((?:[^,"]|"(?:[^"\\]|\\.)*"?)*)(?:,|$)')


@dataclass(frozen=True)
class OptionAxes:
    """The values of each option: of all models that have it (`shared`), and of single models (`own`), by the model's name."""

    shared: Values = field(default_factory=dict)
    own: dict[str, Values] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.shared or self.own)

    def names(self) -> set[str]:
        """The names of all options."""
        return {*self.shared, *(name for values in self.own.values() for name in values)}

    def merged(self, other: "OptionAxes") -> "OptionAxes":
        """Both; the other's values of an option are instead of these."""
        own = {model: {**self.own.get(model, {}), **other.own.get(model, {})} for model in dict.fromkeys([*self.own, *other.own])}
        kept = {
            model: {n: v for n, v in values.items() if n in other.own.get(model, {}) or n not in other.shared}
            for model, values in own.items()
        }
        return OptionAxes({**self.shared, **other.shared}, kept)

    def points(self, model: str) -> list[Options]:
        """Every combination for a model, the last option fastest; one without options if it has none of them."""
        name = split_variant(model)[0]
        values = {n: v for n, v in self.shared.items() if find_model(name).may_take(n)} | self.own.get(name, {})
        return [Options(dict(zip(values, point, strict=True))) for point in itertools.product(*values.values())]

    def check(self, place: str, models: Iterable[str]) -> list[Lacking]:
        """Check names and types of the options for the models of a table, of which models of the user's are not imported.

        Args:
            place: where the options stand, in messages.
            models: as on the command line, variants too.

        Returns:
            Each shared option with each model that has it not.

        Raises:
            UsageError: a model has not the option that is meant for it, no model has an option, or a value is of another type.
        """
        names = list(dict.fromkeys(split_variant(model)[0] for model in models))
        for model in self.own:
            if model not in names:
                hint = did_you_mean(model, names)
                if is_variant(model):
                    hint = f"; options are of a model and all its variants: write {split_variant(model)[0]}"
                raise UsageError(f"{place}: {model}: expected one of the models {', '.join(names)}, got {model!r}{hint}")
        lacking: list[Lacking] = []
        for option, values in self.shared.items():
            takers = [name for name in names if find_model(name).may_take(option)]
            if not takers:
                raise UsageError(f"{place}: {_why_no_model_has(option, values[0], names)}")
            _check_values(place, takers, option, values, several=len(takers) > 1)
            lacking += [(option, name) for name in names if name not in takers]
        for model, own in self.own.items():
            for option, values in own.items():
                _check_values(place, [model], option, values)
        return lacking


NO_OPTIONS = OptionAxes()


def _why_no_model_has(option: str, value: Value, models: Sequence[str]) -> str:
    """Why none of the models has an option, in one sentence."""
    if len(models) == 1:
        return str(find_model(models[0]).why_not_option(option, value))
    if elsewhere := next(filter(None, (find_model(model).not_an_option(option) for model in models)), None):
        return elsewhere
    known = {model: [*find_model(model).options()] for model in models if model in SHIPPED}
    have = "; ".join(f"{model} has {', '.join(names) or 'none'}" for model, names in known.items()) or "ops and indexes have none"
    return f"no model has an option {option!r}: {have}{did_you_mean(option, [name for names in known.values() for name in names])}"


def _check_values(place: str, models: Iterable[str], option: str, values: Iterable[Value], *, several: bool = False) -> None:
    """Raise UsageError for a value that an option of a built-in model cannot have; `several`: it is given to all models of a table."""
    for model, value in itertools.product(models, values):
        if model in SHIPPED and (problem := find_model(model).why_not_option(option, value)):
            remedy = f"; to give it to one model, write its name before it, as {model}.{option}" if several else ""
            raise UsageError(f"{place}: {problem}{remedy}")


def is_variant(model: str) -> bool:
    """Whether a name is that of a variant, as `ntm-checkpointed`."""
    try:
        return split_variant(model)[0] != model
    except UsageError:
        return False


def spread(cases: Sequence[Case], axes: OptionAxes) -> list[Case]:
    """Give cases options beside those that they have: a case for each combination of values that its model takes."""
    if not axes:
        return [*cases]
    points = {model: axes.points(model) for model in {case.model for case in cases}}
    return [case.model_copy(update={"options": Options({**case.options, **point})}) for case in cases for point in points[case.model]]


def lacking_sentences(lacking: Iterable[Lacking], models: Collection[str]) -> list[str]:
    """Say which models have not an option, of those that are run."""
    by_option: dict[str, list[str]] = {}
    for option, model in dict.fromkeys(lacking):
        if model in models:
            by_option.setdefault(option, []).append(model)
    return [
        f"{' and '.join(names)} {'have' if len(names) > 1 else 'has'} no option {option!r}: run without it"
        for option, names in by_option.items()
    ]


def parse_table(place: str, table: object, *, swept: bool = True) -> OptionAxes:
    """Parse the value of the key `options` of a TOML table.

    Args:
        place: where it stands, in messages.
        swept: whether a list of values is allowed.

    Raises:
        UsageError: naming the option at fault.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f'{place}: options: expected a table such as {{ erase = "gated" }}, got {table!r}')
    shared = {name: value for name, value in table.items() if not isinstance(value, Mapping)}
    own = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    return OptionAxes(
        _parse_values(f"{place}: options", shared, swept),
        {model: _parse_values(f"{place}: options.{model}", values, swept) for model, values in own.items()},
    )


def _parse_values(place: str, table: Mapping[str, object], swept: bool) -> Values:
    parsed: Values = {}
    for name, value in table.items():
        if isinstance(value, list) and not swept:
            raise UsageError(f"{place}: {name}: expected one value, got a list; what is compared stands in a grid or in arms")
        parsed[name] = _checked(place, name, value if isinstance(value, list) else [value], check_value)
    return parsed


def parse_texts(texts: Iterable[str]) -> OptionAxes:
    """Parse the values of `--option`; the values of an option that is given twice are joined. UsageError naming the one at fault."""
    given: dict[str, dict[str, list[str]]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        model, dot, option = name.strip().rpartition(".")
        if not equals or not option or (dot and not model):
            raise UsageError(f"--option: expected NAME=VALUE or MODEL.NAME=VALUE, as erase=always,gated or sam.erase=gated, got {text!r}")
        given.setdefault(model, {}).setdefault(option, []).extend(part.strip() for part in _split(value))
    own = {
        model: {option: _checked("--option", option, parts, parse_value) for option, parts in options.items()}
        for model, options in given.items()
    }
    return OptionAxes(own.pop("", {}), own)


def _split(text: str) -> list[str]:
    """Split at commas outside of double quotes."""
    parts, place = [], 0
    while place <= len(text):
        match = _COMMAS.match(text, place)
        assert match is not None
        parts.append(match[1])
        if match.end() == len(text) and not match[0].endswith(","):
            break
        place = match.end()
    return parts


def _checked(place: str, name: str, parts: Sequence[S], check: Callable[[S], Value]) -> tuple[Value, ...]:
    """The values of an option, each once; UsageError naming it."""
    try:
        check_option_name(name)
        values = {Options({name: value}): value for value in map(check, parts)}  # as options, since to Python 1 and true are equal
    except ValueError as error:
        raise UsageError(f"{place}: {name}: {error}") from error
    if not values:
        raise UsageError(f"{place}: {name}: expected a value or a list of at least one, got an empty list")
    return tuple(values.values())
