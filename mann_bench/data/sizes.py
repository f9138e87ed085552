"""Sizes as people write them: `64k` is 64 * 2**10 slots, `1M` is 2**20, `16G` is 16 * 2**30."""

import re

from mann_bench.data.errors import UsageError

_FACTORS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def parse_size(text: str | int) -> int:
    """Whole number of slots or bytes from `4096`, `64k`, `1M`, `2.5G` (binary multiples); UsageError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)(?:i?[bB])?", str(text).strip())
    value = float(match[1]) * _FACTORS[match[2].lower()] if match else 0.0
    if value < 1 or value != int(value):
        raise UsageError(f"expected a size such as 4096, 64k or 1M (k = 2^10, M = 2^20, G = 2^30), got {text!r}; write a whole number >= 1")
    return int(value)


def parse_seconds(text: str) -> float:
    """`90`, `90s`, `10m`, `1.5h` -> seconds; UsageError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    value = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if value <= 0:
        raise UsageError(f"expected a time such as 90s, 10m or 1.5h, got {text!r}")
    return value


def format_slots(slots: int) -> str:
    """`65536` -> `64k`: the shortest exact way to write a number of slots."""
    for letter in "GMk":
        factor = _FACTORS[letter.lower()]
        if slots >= factor and slots % factor == 0:
            return f"{slots // factor}{letter}"
    return str(slots)


def round_slots(slots: float) -> str:
    """`5284.3` -> `5.16k`: three significant digits, binary multiples."""
    if slots == float("inf"):
        return "no limit"
    value, letter = float(slots), ""
    for letter in ("", "k", "M", "G"):
        if value < 1000 or letter == "G":
            break
        value /= 1024
    return f"{value:.3g}{letter}"


def format_times(ratio: float) -> str:
    """`3.29`, `404`, `2,130`: three significant digits, no powers of ten."""
    return f"{ratio:.3g}" if ratio < 999.5 else f"{ratio:,.0f}"


def format_bytes(size_bytes: float) -> str:
    """`8179916` -> `7.8 MiB`: three significant digits, binary units."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1000:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"
