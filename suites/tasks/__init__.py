"""Task generators: seeded, batched sequences that a memory must hold, each with one difficulty level."""

from mann_bench.suites.tasks.find import TASKS, find_task
from mann_bench.suites.tasks.recall import associative_recall
from mann_bench.suites.tasks.task import Batch, Task

__all__ = ["TASKS", "Batch", "Task", "associative_recall", "find_task"]
