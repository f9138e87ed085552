"""Which tasks there are, by name: built-ins, and `package.module:Class` of one's own."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mann_bench.data.errors import UsageError
from mann_bench.data.registry import did_you_mean, import_target
from mann_bench.suites.tasks.task import Task

TASKS = {
    "copy": "mann_bench.suites.tasks.copying:Copy",
    "repeat-copy": "mann_bench.suites.tasks.repeat_copy:RepeatCopy",
    "recall": "mann_bench.suites.tasks.recall:Recall",
    "item-recall": "mann_bench.suites.tasks.item_recall:ItemRecall",
    "priority-sort": "mann_bench.suites.tasks.priority_sort:PrioritySort",
    "omniglot": "mann_bench.suites.tasks.omniglot:Omniglot",
    "babi": "mann_bench.suites.tasks.babi:Babi",
}


def find_task(name: str, data: Path | None = None, options: Mapping[str, int] | None = None) -> Task:
    """The task; `data` is the folder or archive it draws from, for a task whose constructor takes `data`.

    UsageError for an unknown name, an option that the task has not or refuses, and data that is missing or of no use to it.
    """
    if ":" not in name and name not in TASKS:
        known = list(TASKS)
        raise UsageError(f"task: expected one of {', '.join(known)} or package.module:Class, got {name!r}{did_you_mean(name, known)}")
    factory = import_target(f"task {name!r}", TASKS.get(name, name))
    parameters = inspect.signature(factory).parameters
    accepted = [option for option, parameter in parameters.items() if isinstance(parameter.default, int)]
    given: dict[str, Any] = dict(options or {})
    for option in given:
        if option not in accepted:
            known_options = ", ".join(accepted) or "no options"
            raise UsageError(f"task {name!r}: expected options among {known_options}, got {option!r}{did_you_mean(option, accepted)}")
    if "data" in parameters:
        if data is None:
            raise UsageError(f"task {name!r}: expected --data PATH of the folder or archive as distributed, got none")
        given["data"] = data
    elif data is not None:
        raise UsageError(f"task {name!r}: expected no data, its sequences are drawn at random, got {str(data)!r}; leave --data out")
    try:
        task = factory(**given)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"task {name!r}: {error}") from error
    if not isinstance(task, Task):
        raise UsageError(f"task {name!r}: expected a Task (mann_bench.suites.tasks.Task), got {type(task).__name__}")
    return task
