"""The fields that a plot can have on its x axis."""

import pandas as pd

from mann_bench.data.errors import UsageError

AXES = {  # fields and their titles
    "slots": "memory slots N",
    "steps": "steps T",
    "batch": "batch B",
    "word_size": "word size W",
    "heads": "read heads R",
    "reads": "rows a head reads K",
    "hidden": "hidden units H",
    "threads": "threads",
}
LETTERS = {title.rsplit(" ", 1)[-1]: field for field, title in AXES.items() if title[-2:-1] == " "}


def find_axis(frame: pd.DataFrame, name: str) -> str:
    """Return the field that a name or letter stands for (`steps` and `T`).

    Args:
        name: empty for N; where the frame has one N only, for the field with the most values.

    Raises:
        UsageError: there is no such field, or the frame has one value of it.
    """
    if not name:
        return max(AXES, key=lambda axis: len(set(frame[axis]))) if frame["slots"].nunique() == 1 else "slots"
    field = LETTERS.get(name, name)
    varying = [axis for axis in AXES if axis == "slots" or frame[axis].nunique() > 1]
    if field not in varying:
        raise UsageError(f"--x: expected a field that the run varies ({', '.join(varying)}), got {name!r}")
    return field
