"""What a figure of small multiples shows, as data: panels, curves, axes. `panels.py` draws it; here is nothing that draws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

MOST_CURVES = 6  # of a panel


class Axis(NamedTuple):
    """A title, how a value is written, and the base of the powers at which a logarithmic axis has ticks; 0 for a linear axis.

    `ticks`: the values that have a tick, as many as fit; none for powers of the base.
    """

    title: str
    text: Callable[[float], str]
    base: int = 10
    ticks: tuple[float, ...] = ()


class Look(NamedTuple):
    """How a curve is drawn, and its label: the name and a remark below it."""

    color: str
    dashes: str
    name: str
    remark: str = ""


@dataclass(frozen=True)
class Panel:
    """Curves that are drawn together.

    Attributes:
        rows: a row a case, with `curve`, `x`, `y`, `low`, `high`, `case_id` and `warned`; sorted by x within a curve.
        looks: by curve.
        group: panels with the same one show the curves of each other in grey.
        steps: points (x, y) that are joined by a line in steps.
    """

    title: str
    rows: pd.DataFrame
    looks: Mapping[str, Look]
    group: str = ""
    steps: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Multiples:
    """A figure: panels with common axes.

    Attributes:
        note: says what is not shown.
        one: draw a line at 1.
        joined: whether lines lead from point to point of a curve.
    """

    key: str
    title: str
    subtitle: str
    x: Axis
    y: Axis
    panels: tuple[Panel, ...]
    note: str = ""
    one: bool = False
    joined: bool = True
