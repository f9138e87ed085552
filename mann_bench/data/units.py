"""Numbers with units, parsed and formatted: `64k` is 64 * 2**10 slots, `16G` is 16 * 2**30 bytes, `10m` is 600 s."""

import re

from mann_bench.data.errors import UsageError
from mann_bench.data.fields import WORD

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)(?:i?[bB])?")
TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)")
_FACTORS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def parse_size(text: str | int) -> int:
    """`4096`, `64k`, `1M`, `2.5G` -> a whole number of slots or bytes (binary multiples); UsageError for anything else."""
    match = SIZE.fullmatch(str(text).strip())
    value = float(match[1]) * _FACTORS[match[2].lower()] if match else 0.0
    if not 1 <= value < WORD or value != int(value):
        raise UsageError(f"expected a size such as 4096, 64k or 1M (k = 2^10, M = 2^20, G = 2^30), got {text!r}; write a whole number >= 1")
    return int(value)


def parse_seconds(text: str) -> float:
    """`90`, `90s`, `10m`, `1.5h` -> seconds; UsageError for anything else."""
    match = TIME.fullmatch(text.strip())
    value = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"expected a time such as 90s, 10m or 1.5h, got {text!r}")
    return value


def format_slots(slots: int) -> str:
    """`65536` -> `64k`: exact, in the largest unit that allows it."""
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


def format_number(value: float) -> str:
    """`3.29`, `404`, `2,130`: three significant digits, and large numbers whole, without a power of ten."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def format_bytes(size_bytes: float) -> str:
    """`8179916` -> `7.8 MiB`: three significant digits, binary units."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{format_number(value)} GiB"


def format_duration(seconds: float) -> str:
    """`58 s`, `4.2 min`, `1.1 h`: three significant digits."""
    unit, factor = ("s", 1) if seconds < 60 else ("min", 60) if seconds < 3600 else ("h", 3600)
    return f"{seconds / factor:.3g} {unit}"
