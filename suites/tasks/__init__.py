"""Tasks: seeded batches of sequences that need a memory, each batch of one level of difficulty."""

from mann_bench.suites.tasks.find import TASKS, find_task, takes_data
from mann_bench.suites.tasks.recall import associative_recall
from mann_bench.suites.tasks.task import Batch, Task

__all__ = ["TASKS", "Batch", "Task", "associative_recall", "find_task", "takes_data"]
