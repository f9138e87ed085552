"""What Python reads from the headers of `csrc/`, so that every name is written once."""

import re
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "csrc"


def argument_types() -> dict[str, str]:
    """Types of the fields of `Arguments`, in order: SIZE, or that of a buffer's elements (Real, Store, int8_t, int32_t, int64_t)."""
    fields = _find("arguments.h", r"^    (?P<type>\w+)(?P<pointer>\*?) (?P<name>\w+);")
    return {field["name"]: field["type"] if field["pointer"] else "SIZE" for field in fields}


def entry_points() -> dict[str, str]:
    """Names of the entry points, and how many items of work each has as a C++ expression of its arguments `a`."""
    return {entry[1]: entry[2] for entry in _find("entries.h", r"^    MB_ENTRY\((\w+), (.+)\)(?: *\\)?$")}


def phases() -> tuple[str, ...]:
    """Names of the phases that the kernels' clocks tell apart."""
    return tuple(phase[1] for phase in _find("sequence/clocks.h", r"^    MB_PHASE\((\w+)\)"))


def most_tensors() -> int:
    """How many tensors one call can take the addresses of."""
    return next(int(number[1]) for number in _find("tensors.h", r"most_tensors = (\d+);"))


def _find(header: str, pattern: str) -> Iterator[re.Match[str]]:
    return re.finditer(pattern, (SOURCES / header).read_text(), re.MULTILINE)
