"""How many slots a training run needs so that writing does not overwrite, within one sequence, what the sequence wrote before.

Each writer of SAM and of its dense twin overwrites the row that was used longest ago. A sequence of T steps with V writers writes T V rows.
A smaller memory loses the first of them, and what is learned says little about the model.
"""

from mann_bench.data.registry import find_model
from mann_bench.data.units import format_slots
from mann_bench.learn.record import LearningCase
from mann_bench.suites.tasks import Task

MOST_SLOTS = 2**24  # that are advised


def slots_for(task: Task, level: int, heads: int) -> int:
    """The power of two, at least 2, that holds all rows which a sequence of a level writes with one writer a head."""
    return max(2, 1 << (task.steps(level) * heads - 1).bit_length())


def rows_written(case: LearningCase, task: Task, level: int) -> int | None:
    """Rows that a sequence of a level writes; None for a model without such writes, and for one of a user's."""
    writers = {"heads": case.heads, "one": 1, "": None}[find_model(case.model).writers]
    return None if writers is None else int(case.options.get("write_heads", writers)) * task.steps(level)


def too_small(case: LearningCase, task: Task) -> str | None:
    """Say from which level on a run's memory is smaller than what a sequence writes; None if it never is."""
    low, high = case.levels

    def overflows(level: int) -> bool:
        rows = rows_written(case, task, level)
        return rows is not None and rows > case.slots

    if not overflows(high):
        return None
    enough = slots_for(task, high, case.heads)
    while low < high:  # the least level that overflows: steps grow with the level
        middle = (low + high) // 2
        low, high = (low, middle) if overflows(middle) else (middle + 1, high)
    remedy = f"--slots {format_slots(enough)} holds all" if enough <= MOST_SLOTS else "give more --slots to go beyond"
    return f"{case.title}: N = {format_slots(case.slots)} is less than the rows that a sequence of level {low:,} or higher writes; {remedy}"
