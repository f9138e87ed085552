"""What the constructor of a model takes: which of its arguments are options, their types and defaults. The model is not built."""

import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from mann_bench.data.options import Value, value_text

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}  # in words
DTYPE = "a type of numbers (bfloat16)"
NONE = "none"  # how a text stands for Python's None where an option may be that


@dataclass(frozen=True)
class Option:
    """An argument of a constructor.

    Attributes:
        default: its default; `inspect.Parameter.empty` if it has none.
        types: the types that its annotation or its default allows; empty if that is not known.
        choices: the only values, if the annotation names them.
        optional: whether it may be None.
        dtype: whether it may be a `torch.dtype`.
        what: its description in the docstring; "" if there is none.
    """

    name: str
    default: object
    types: frozenset[type] = frozenset()
    choices: tuple[Value, ...] = ()
    optional: bool = False
    dtype: bool = False
    what: str = ""

    @property
    def expected(self) -> str:
        """What values it takes, in words."""
        words = [value_text(choice) for choice in self.choices] or [KINDS[kind] for kind in KINDS if kind in self.types]
        return " or ".join([*words, *([DTYPE] if self.dtype else []), *([NONE] if self.takes_none else [])]) or "any value"

    @property
    def takes_none(self) -> bool:
        """Whether the text `none` stands for None: not where any text is allowed."""
        return self.optional and str not in self.types and bool(self.types or self.choices or self.dtype)

    @property
    def default_text(self) -> str:
        """Its default as a value of an option would be written; "" if it has none."""
        if self.default is inspect.Parameter.empty:
            return ""
        if self.default is None:
            return NONE
        return value_text(self.default) if isinstance(self.default, bool | int | float | str) else str(self.default)

    def problem(self, value: Value) -> str | None:
        """What is wrong with a value, in words, or None. What only the constructor knows is not checked here."""
        if value == NONE and self.takes_none:
            return None
        if self.dtype and isinstance(value, str) and self._dtype(value) is not None:
            return None
        fits = type(value) in self.types or (type(value) is int and float in self.types) or not (self.types or self.dtype)
        if fits and (not self.choices or value in self.choices):
            return None
        return f"{self.name}: expected {self.expected}, got {value_text(value)}"

    def argument(self, value: Value) -> object:
        """What the constructor is given for a value: `none` and names of number types become Python's."""
        if value == NONE and self.takes_none:
            return None
        dtype = self._dtype(value) if self.dtype and isinstance(value, str) else None
        return value if dtype is None else dtype

    @staticmethod
    def _dtype(name: str) -> object:
        import torch

        found = getattr(torch, name, None)
        return found if isinstance(found, torch.dtype) else None


@dataclass(frozen=True)
class Constructor:
    """The arguments of a constructor by name; `open`: it takes others too, by ** or in a way that cannot be known."""

    arguments: Mapping[str, Option] = field(default_factory=dict)
    open: bool = False


def constructor_of(factory: Callable[..., object]) -> Constructor:
    """Look at a function or class; of a class also the arguments that it passes on to its bases by **."""
    arguments: dict[str, Option] = {}
    owners = inspect.getmro(factory) if inspect.isclass(factory) else (factory,)
    for owner in owners:
        if inspect.isclass(owner) and owner.__module__.partition(".")[0] in ("torch", "builtins"):
            break  # what reaches torch's own classes by ** cannot be for them
        signature = _signature(owner)
        if signature is None:
            return Constructor(arguments, open=True)
        documented = _documented(owner)
        for parameter in signature.parameters.values():
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                arguments.setdefault(parameter.name, _option(parameter, documented.get(parameter.name, "")))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
            return Constructor(arguments)
    return Constructor(arguments, open=True)


def without(constructor: Constructor, names: Collection[str]) -> dict[str, Option]:
    """Return the arguments but those of these names."""
    return {name: option for name, option in constructor.arguments.items() if name not in names}


def _signature(owner: Callable[..., object]) -> inspect.Signature | None:
    """The signature, with annotations that were written as texts evaluated where that is possible; None if there is none to see."""
    try:
        return inspect.signature(owner, eval_str=True)
    except (NameError, AttributeError, SyntaxError, TypeError):
        pass
    except ValueError:  # of a class written in C
        return None
    try:
        return inspect.signature(owner)
    except (ValueError, TypeError):
        return None


def _option(parameter: inspect.Parameter, what: str) -> Option:
    default = parameter.default
    annotation = type(default) if parameter.annotation is parameter.empty else parameter.annotation
    if parameter.annotation is parameter.empty and default is None:
        annotation = object
    parts = list(_parts(annotation))
    choices = [choice for part in parts if typing.get_origin(part) is typing.Literal for choice in typing.get_args(part)]
    simple = {part for part in parts if isinstance(part, type) and part in KINDS}
    named = {type(choice) for choice in choices if choice is not None}
    dtypes = [part for part in parts if (getattr(part, "__module__", ""), getattr(part, "__name__", "")) == ("torch", "dtype")]
    others = [part for part in parts if part not in (*simple, *dtypes, type(None)) and typing.get_origin(part) is not typing.Literal]
    optional = type(None) in parts or None in choices or default is None
    if others or not named <= KINDS.keys():
        return Option(parameter.name, default, optional=optional, what=what)
    only = () if simple else tuple(choice for choice in choices if choice is not None)
    return Option(parameter.name, default, frozenset(simple | named), only, optional, bool(dtypes), what)


def _parts(annotation: object) -> typing.Iterator[object]:
    """The members of a union, or the annotation itself."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _parts(part)
    elif origin is typing.Annotated:
        yield from _parts(typing.get_args(annotation)[0])
    else:
        yield annotation


def _documented(owner: Callable[..., object]) -> dict[str, str]:
    """The descriptions of arguments in the section `Args:` of a docstring, each as one line."""
    section = (inspect.getdoc(owner) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^    (?=\w+: )", section, flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, _, text in (entry.partition(": ") for entry in entries)}
