"""Whether models of the user's can be imported and made, asked of a process of its own before a sweep meets it at every size.

This process imports no code of the user's.
"""

from collections.abc import Collection

from pydantic import Field

from mann_bench.data.registry import BUILT_INS, KINDS
from mann_bench.run.process import WorkerProcess
from mann_bench.run.replies import Failure, Reply, Sentence

IMPORT_S = 60.0  # a module that takes longer is not judged here; its cases will tell


class Looked(Reply):
    """What is wrong with models, by name; those that can be made are left out."""

    problems: dict[str, Sentence] = Field(default_factory=dict)


def own_names(models: Collection[str]) -> list[str]:
    """The names, each once, that stand for code of the user's or of an installed package."""
    return [name for name in dict.fromkeys(models) if name not in BUILT_INS and name.partition(":")[0] not in KINDS]


def why_not_made(models: Collection[str], seconds: float = IMPORT_S) -> dict[str, str]:
    """Why models cannot be imported or made, by name. Without models of the user's no process is started."""
    names = own_names(models)
    if not names:
        return {}
    worker = WorkerProcess(1)
    try:
        if isinstance(worker.wait_until_started(), Failure):
            return {}
        reply = worker.ask({"do": "look", "models": [*names]}, seconds, Looked)
    finally:
        worker.quit()
    return {} if isinstance(reply, Failure) else dict(reply.problems)
