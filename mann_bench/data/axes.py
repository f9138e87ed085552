"""The values that each field takes over the cases of a run, and which of them differ from those of another command."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import BaseModel

from mann_bench.data.fields import Json

Axes = dict[str, list[Json]]
SHOWN = 6  # values of a field that a sentence names


def axes_of(cases: Iterable[BaseModel], without: Collection[str] = ()) -> Axes:
    """The distinct values of each field in order of first appearance; `{"model": ["ntm", "sam"], "slots": [64, 1024], ...}`."""
    axes: Axes = {}
    for case in cases:
        for name, value in case.model_dump(mode="json", exclude=set(without), by_alias=True).items():
            values = axes.setdefault(name, [])
            if value not in values:
                values.append(value)
    return axes


def differing_axes(before: Mapping[str, Sequence[Json]], after: Mapping[str, Sequence[Json]]) -> list[str]:
    """What differs, a phrase each: `slots: there 64, 1024, here 64`. Fields that only one side knows do not count."""
    found = []
    before = {"options": [{}], **before}  # what a run was like that is older than this field
    for name in after:
        if name in before and (_only_in(before[name], after[name]) or _only_in(after[name], before[name])):
            found.append(f"{name}: there {_words(before[name])}, here {_words(after[name])}")
    return found


def _only_in(values: Sequence[Json], others: Sequence[Json]) -> bool:
    return any(value not in others for value in values)


def _words(values: Sequence[Json]) -> str:
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(map(_word, values[:SHOWN])) + more


def _word(value: Json) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={part}" for name, part in value.items()) or "none"
    return str(value)
