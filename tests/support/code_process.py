"""The driver's side of `code_worker.py`, a worker process that starts fast and runs the code that a test sends."""

from typing import Any

from mann_bench.run.process import WorkerProcess
from mann_bench.run.replies import Failure, Reply


class Answer(Reply):
    """What the code left in `answer`."""

    answer: Any = None


class CodeProcess(WorkerProcess):
    """Runs Python code (`code_worker.py`)."""

    MODULE = "tests.support.code_worker"

    def run(self, code: str, timeout_s: float = 60) -> Any:
        """The value of `answer` after the code has run, or a failure."""
        reply = self.ask({"do": "run", "code": code}, timeout_s, Answer)
        return reply if isinstance(reply, Failure) else reply.answer
