"""Options: arguments of a model's constructor that are no field of a case, as `{"erase": "gated", "write_heads": 1}`.

They are written `erase=gated write_heads=1` in labels and tables: a text stands in double quotes where it would be read otherwise.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Protocol

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from mann_bench.data.fields import WORD, escape

Value = bool | int | float | str
JSON_SCHEMA: JsonSchemaValue = {"type": "object", "additionalProperties": {"type": ["boolean", "integer", "number", "string"]}}

_WORDS = {"true": True, "false": False}
_INTEGER = re.compile(r"[+-]?\d+(_\d+)*")
_NUMBER = re.compile(r"[+-]?(\d+(_\d+)*)?(\.\d+)?([eE][+-]?\d+)?")
_BARE = re.compile(r"[^\W\d][\w.+/-]*")  # a text that needs no quotes
_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s"]+)(?: |$)')


class Options(Mapping[str, Value]):
    """Options by name, sorted; immutable and hashable. `true` and `1` are different values here, unlike in Python."""

    __slots__ = ("_items", "_values")

    def __init__(self, values: Mapping[str, Value] | None = None) -> None:
        """Take the values; ValueError for a name that is no argument, or a value that is no bool, int, float or text."""
        checked = {name: check_value(value) for name, value in sorted((values or {}).items()) if check_option_name(name)}
        self._values: dict[str, Value] = checked
        self._items = tuple((name, type(value), value) for name, value in checked.items())

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(self._items)

    def __eq__(self, other: object) -> bool:
        return self._items == other._items if isinstance(other, Options) else super().__eq__(other)

    def __repr__(self) -> str:
        return f"Options({self._values!r})"

    def __str__(self) -> str:
        """Return `erase=gated write_heads=1`; an empty text without options."""
        return " ".join(f"{name}={value_text(value)}" for name, value in self.items())

    def __reduce__(self) -> tuple[type["Options"], tuple[dict[str, Value]]]:
        return Options, (self._values,)

    @classmethod
    def parse(cls, text: str) -> "Options":
        """Read what `str` writes; ValueError for any other text."""
        values, place = {}, 0
        while place < len(text):
            pair = _PAIR.match(text, place)
            if pair is None:
                raise ValueError(f"expected options such as erase=gated write_heads=1, got {text!r}")
            values[pair[1]], place = parse_value(pair[2]), pair.end()
        return cls(values)

    @classmethod
    def validate(cls, value: object) -> "Options":
        """Make options of a mapping, of their text, or of options; ValueError for anything else."""
        if isinstance(value, Options):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        if isinstance(value, Mapping):
            return cls(value)
        raise ValueError('expected a table of options such as { erase = "gated" }')

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.validate, serialization=core_schema.plain_serializer_function_ser_schema(dict, return_schema=core_schema.dict_schema())
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return JSON_SCHEMA


class Configured(Protocol):
    """What has a model and options: a case of a benchmark or of training."""

    @property
    def model(self) -> str:
        """The name of the model."""

    @property
    def options(self) -> Options:
        """Its options."""


def check_option_name(name: object) -> bool:
    """Whether this may be the name of an argument: always, or ValueError."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"expected the name of an argument, got {name!r}")
    return True


def check_value(value: object) -> Value:
    """Return a value that an option can have; ValueError for any other."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and -WORD <= value < WORD:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, str):
        return escape(value)
    raise ValueError(f"expected true, false, a finite number or a text, got {value!r}")


def value_text(value: Value) -> str:
    """Write a value so that `parse_value` reads the same: `true`, `3`, `0.5`, `gated`, `"two words"`."""
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) and value not in _WORDS else json.dumps(value)
    return json.dumps(value)


def parse_value(text: str) -> Value:
    """Read a value: `true` and `false`, a number, a text; in double quotes any text. ValueError for an empty or unfinished one."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return check_value(int(text))
    if _NUMBER.fullmatch(text) and any(letter.isdigit() for letter in text):
        return check_value(float(text))
    if text.startswith('"'):
        try:
            return check_value(json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(f"expected a text that ends with a double quote, got {text}") from error
    if not text:
        raise ValueError("expected a value, got none")
    return check_value(text)
