"""Shards: a plan divided into parts that hosts work on apart, by a rule that gives every host the same division."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mann_bench.data.errors import UsageError
from mann_bench.data.fields import Json

MOST_SHARDS = 100_000
DECIMALS = 3  # of the seconds that are compared, so that a last bit that a library rounds otherwise divides nothing otherwise


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, from 1; written `3/16`."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def to_json(self) -> dict[str, Json]:
        """What `run.json` holds of it."""
        return dict(asdict(self))


def parse_shard(text: str) -> Shard:
    """`3/16` -> Shard(3, 16); UsageError for anything else."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    if match and 1 <= int(match[1]) <= int(match[2]) <= MOST_SHARDS:
        return Shard(int(match[1]), int(match[2]))
    raise UsageError(f"--shard: expected NUMBER/COUNT with 1 <= NUMBER <= COUNT <= {MOST_SHARDS:,}, as 3/16, got {text!r}")


def divide(seconds: Sequence[float], count: int) -> list[list[int]]:
    """Divide units of work into `count` parts that take about as long: the longest first, each to the part that has least so far.

    Args:
        seconds: that each unit takes, by a rule that says the same on every host.

    Returns:
        The numbers of the units of each part, in order; a part is empty where there are fewer units than parts.
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [(0.0, 0)] * count  # seconds, units
    rounded = [round(each, DECIMALS) for each in seconds]
    for unit in sorted(range(len(rounded)), key=lambda unit: (-rounded[unit], unit)):
        part = min(range(count), key=lambda part: (loads[part], part))
        parts[part].append(unit)
        loads[part] = (round(loads[part][0] + rounded[unit], DECIMALS), loads[part][1] + 1)
    return [sorted(part) for part in parts]
