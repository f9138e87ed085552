"""What to do about runs whose times cannot be compared: the command that times both sides in turn."""

import shlex
from collections.abc import Iterable

from mann_bench.data.registry import KINDS
from mann_bench.data.suite import suite_names


def not_in_turn(models: Iterable[str], suite: str) -> str:
    """Say that the times of separate runs are not judged, and which commands time both in turn.

    Args:
        models: those of both runs.
        suite: the name of the suite that made the runs.
    """
    options = ["--suite", suite if suite in suite_names() else "quick"]
    own = [word for name in dict.fromkeys(models) if name.partition(":")[0] not in ("", name, *KINDS) for word in ("--model", name)]
    commands = [["mann-bench", "compare", "main", ".", *options, *own]]
    if own:
        commands.append(["mann-bench", "compare", "--model", "old.py:Model", "--model", "new.py:Model", *options])
    remedy = " or ".join(f"`{shlex.join(command)}`" for command in commands)
    return (
        "the runs were not timed in turn: what the machine did meanwhile is in every ratio of times, so that none is judged and none fails "
        f"--fail-on slower (memory is judged); to time two states of the code in turn: {remedy}"
    )
