"""What Python reads from the headers of `csrc/`, so that every name is written once."""

import re
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).resolve().parents[1] / "csrc"


def argument_types() -> dict[str, str]:
    """Types of the fields of `Arguments`, in order: SIZE, or that of a buffer's elements (Real, Store, int8_t, int32_t, int64_t)."""
    fields = _find("arguments.h", r"^    (\w+)(\*?) (\w+);")
    return {name: type_ if pointer else "SIZE" for type_, pointer, name in fields}


def entry_points() -> dict[str, str]:
    """Names of the entry points, and how many items of work each has as a C++ expression of its arguments `a`."""
    return dict(_find("entries.h", r"^    MB_ENTRY\((\w+), (.+)\)(?: *\\)?$"))


def phases() -> tuple[str, ...]:
    """Names of the phases that the kernels' clocks tell apart."""
    return tuple(_find("sequence/clocks.h", r"^    MB_PHASE\((\w+)\)"))


def most_tensors() -> int:
    """How many tensors one call can take the addresses of."""
    return int(_find("tensors.h", r"most_tensors = (\d+);")[0])


def _find(header: str, pattern: str) -> list[Any]:
    return re.findall(pattern, (SOURCES / header).read_text(), re.MULTILINE)
