"""The driver's side of a talker, a worker process that starts fast and runs the code that a test sends."""

from typing import Any

from mann_bench.run.process import WorkerProcess
from mann_bench.run.replies import Failure, Reply


class Said(Reply):
    """The reply of a talker."""

    said: Any = None


class TalkerProcess(WorkerProcess):
    """Runs Python code (`talker.py`)."""

    MODULE = "tests.support.talker"

    def run(self, code: str, timeout_s: float = 60) -> Any:
        """The value of `said` after the code has run, or a failure."""
        reply = self.ask({"do": "run", "code": code}, timeout_s, Said)
        return reply if isinstance(reply, Failure) else reply.said
