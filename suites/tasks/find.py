"""Find a task by name: a built-in one, or `package.module:Class` of a user's own."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

from mann_bench.data.errors import UsageError, did_you_mean
from mann_bench.data.registry import import_target
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


def takes_data(name: str) -> bool:
    """Whether a task reads files; UsageError if there is no such task."""
    return "data" in inspect.signature(_factory(name)).parameters


def find_task(name: str, data: Path | None = None, options: Mapping[str, int] | None = None) -> Task:
    """Build a task.

    Args:
        data: folder or archive, for a task whose constructor takes `data`.
        options: other arguments of the constructor.

    Raises:
        UsageError: unknown name, an option that the task does not have or refuses, data missing or not wanted.
    """
    factory = _factory(name)
    parameters = inspect.signature(factory).parameters
    accepted = [option for option, parameter in parameters.items() if isinstance(parameter.default, int)]
    arguments: dict[str, int | Path] = dict(options or {})
    for option in arguments:
        if option not in accepted:
            known_options = ", ".join(accepted) or "no options"
            raise UsageError(f"task {name!r}: expected options among {known_options}, got {option!r}{did_you_mean(option, accepted)}")
    if "data" in parameters:
        if data is None:
            raise UsageError(f"task {name!r}: expected --data PATH of the folder or archive as distributed, got none")
        arguments["data"] = data
    elif data is not None:
        raise UsageError(f"task {name!r}: expected no data, its sequences are drawn at random, got {str(data)!r}; leave --data out")
    try:
        task = factory(**arguments)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"task {name!r}: {error}") from error
    if not isinstance(task, Task):
        raise UsageError(f"task {name!r}: expected a Task (mann_bench.suites.tasks.Task), got {type(task).__name__}")
    return task


def _factory(name: str) -> Callable[..., object]:
    """The class of a task; UsageError for an unknown name, or a module that cannot be imported."""
    if ":" not in name and name not in TASKS:
        known = list(TASKS)
        raise UsageError(f"task: expected one of {', '.join(known)} or package.module:Class, got {name!r}{did_you_mean(name, known)}")
    factory: Callable[..., object] = import_target(f"task {name!r}", TASKS.get(name, name))
    return factory
