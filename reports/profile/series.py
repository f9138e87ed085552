"""A profile as series: the moments of its pass in order, and its memory as ledger, allocator and driver count it."""

from collections.abc import Iterator
from typing import NamedTuple

from mann_bench.data.units import format_bytes
from mann_bench.measure.profile import Profile, StepPoint
from mann_bench.reports.html.interactive import Row

LEDGER, AFTER, WITHIN, DRIVER = (
    "ledger, after the step",
    "allocator, after the step",
    "allocator, within the step",
    "driver",
)
MEMORY_LINES = (LEDGER, AFTER, WITHIN, DRIVER)
# In stacking order: what is always held at the bottom, what should be 0 on top. Light and dark alternate, to differ without colour.
COLORS = {
    "parameters": "#9a9a9a",
    "gradients": "#d0d0d0",
    "inputs": "#777777",
    "memory": "#0a6bcc",
    "link": "#a8d0f5",
    "ring_and_usage": "#08407a",
    "index": "#6fb0c9",
    "state": "#c9dcea",
    "tape": "#e08a1e",
    "workspace": "#f6dfae",
    "unattributed": "#b00020",
}


class Moment(NamedTuple):
    """The end of a step: its place in the pass, a short label (`f4`, `b4`), and what was measured."""

    number: int
    label: str
    point: StepPoint


def moments(profile: Profile) -> list[Moment]:
    """The ends of all steps in order of time."""
    return [Moment(number, f"{point.direction[0]}{point.step}", point) for number, point in enumerate(in_order(profile))]


def memory_lines(name: str, profile: Profile) -> Iterator[Row]:
    """Bytes at each moment as each of them counts; the driver's only for a GPU that tells them."""
    shown = moments(profile)

    def row(moment: Moment, line: str, size_bytes: int) -> Row:
        text = format_bytes(size_bytes)
        return {"model": name, "moment": moment.label, "order": moment.number, "line": line, "bytes": size_bytes, "text": text}

    for moment in shown:
        held = moment.point.held
        yield row(moment, LEDGER, sum(held.values()) - held["unattributed"])
        yield row(moment, AFTER, sum(held.values()))
        yield row(moment, WITHIN, moment.point.peak_bytes)
    for moment, size_bytes in driver_readings(profile):
        yield row(moment, DRIVER, size_bytes)


def driver_readings(profile: Profile) -> Iterator[tuple[Moment, int]]:
    """What the driver counts at each moment that it was read at; one reading, after the whole pass, stands for all moments."""
    shown, readings = moments(profile), profile.nvml_bytes
    forward = [moment for moment in shown if moment.point.direction == "forward"]
    if not readings:
        return
    if whole_passes(profile) or len(readings) < 2:
        yield from ((moment, readings[-1]) for moment in shown)
        return
    yield from zip(forward, readings[: len(forward)], strict=False)
    if len(shown) > len(forward):
        yield shown[-1], readings[-1]


def whole_passes(profile: Profile) -> bool:
    """Return whether each point was measured in a separate pass."""
    return profile.how == "passes of growing length"


def points_of(profile: Profile, direction: str) -> list[StepPoint]:
    """Return the points of a direction by step."""
    return sorted((point for point in profile.points if point.direction == direction), key=lambda point: point.step)


def in_order(profile: Profile) -> list[StepPoint]:
    """Return the points in order of time: forward, then backward from the last step to the first; of separate passes, forward only."""
    forward = points_of(profile, "forward")
    return forward if whole_passes(profile) else forward + points_of(profile, "backward")[::-1]
