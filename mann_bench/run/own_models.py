"""Whether models of the user's can be imported and made, asked of a process of its own before a sweep meets it at every size.

This process imports no code of the user's. Its own imports, torch's above all, go on while the other process does the same.
"""

import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pydantic import Field

from mann_bench.data.errors import UsageError
from mann_bench.data.fields import Json
from mann_bench.data.options import Configured, Options
from mann_bench.data.registry import KINDS, SHIPPED
from mann_bench.run.process import SAME_CODE, Code, WorkerProcess
from mann_bench.run.replies import Failure, Reply, Sentence

IMPORT_S = 60.0  # a module that takes longer is not judged here; its cases will tell


class Looked(Reply):
    """What is wrong with models, by name; those that can be made are left out. `refused`: what is wrong with options of models.

    `files`: where the modules lie that the models imported, by the first part of their names, without Python's own.
    """

    problems: dict[str, Sentence] = Field(default_factory=dict)
    refused: list[Sentence] = Field(default_factory=list)
    files: dict[str, Sentence] = Field(default_factory=dict)


def own_names(models: Collection[str]) -> list[str]:
    """The names, each once, that stand for code of the user's or of an installed package."""
    return [name for name in dict.fromkeys(models) if name not in SHIPPED and name.partition(":")[0] not in KINDS]


def options_of(cases: Iterable[Configured]) -> dict[str, list[Options]]:
    """The options that cases give to each model, each once."""
    found: dict[str, dict[Options, None]] = {}
    for case in cases:
        found.setdefault(case.model, {})[case.options] = None
    return {model: [*options] for model, options in found.items()}


def nothing() -> None:
    """Do nothing meanwhile."""


def why_not_made(
    options: Mapping[str, Sequence[Options]], seconds: float = IMPORT_S, meanwhile: Callable[[], object] = nothing
) -> dict[str, str]:
    """Why models cannot be imported or made, by name. Without models of the user's no process is started.

    Args:
        options: those that each model is to be made with.
        meanwhile: what this process does while the other one starts, as imports that it needs later; not called without one.

    Raises:
        UsageError: a model has not an option that it is given, or not with such a value.
    """
    names = own_names(options)
    if not names:
        return {}
    [reply] = look_at([({name: options[name] for name in names}, SAME_CODE)], seconds, meanwhile)
    if isinstance(reply, Failure):
        return {}
    if reply.refused:
        others = [f"{model}.{name}" for model in options if model in SHIPPED for point in options[model] for name in point]
        hint = f"; to give an option to another model alone, write its name before it, as {others[0]}" if others else ""
        raise UsageError("; ".join(reply.refused) + hint)
    return dict(reply.problems)


def look_at(
    looks: Sequence[tuple[Mapping[str, Sequence[Options]], Code]], seconds: float, meanwhile: Callable[[], object] = nothing
) -> list[Looked | Failure]:
    """Import models of the user's in workers, and look at their arguments.

    Args:
        looks: for each worker the options that models are to be made with, by name, and the code that it runs. All start side by side.
        seconds: that a worker may take once it has started.
        meanwhile: what this process does while they start.
    """
    workers: list[WorkerProcess] = []
    try:
        for _, code in looks:
            workers.append(WorkerProcess(1, code))
        meanwhile()
        return [_look(worker, options, seconds) for worker, (options, _) in zip(workers, looks, strict=True)]
    finally:
        for worker in workers:
            worker.quit()


def _look(worker: WorkerProcess, options: Mapping[str, Sequence[Options]], seconds: float) -> Looked | Failure:
    """What a worker finds."""
    started = worker.wait_until_started()
    if isinstance(started, Failure):
        return started
    models: dict[str, Json] = {name: [dict(point) for point in points] for name, points in options.items()}
    return worker.ask({"do": "look", "models": models}, seconds, Looked)


def files_of_modules(names: Collection[str]) -> dict[str, str]:
    """Where modules of this process lie, by the first part of their names, without Python's own."""
    found = {}
    for name in sorted({name.partition(".")[0] for name in names} - sys.stdlib_module_names):
        module = sys.modules.get(name)
        path = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
        if isinstance(path, str):
            found[name] = os.path.abspath(path)
    return found
