"""Starts mann-bench in processes forked from one that has imported it: a start then takes milliseconds, not the seconds of torch's import.

    python -m tests.endurance.forking

It reads one JSON object a line, {"arguments": [...], "folder": "...", "output": "...", "environment": {...}}, and answers each with the
process id. The forked process runs the command line's own `main`, in a session of its own.
"""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import mann_bench.learn.session
import mann_bench.run.session  # noqa: F401 what the commands import when they run
from mann_bench.cli.app import main


class Forked:
    """A forked process, with the methods of a `Popen` that trials use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)
        self._ended = False

    def poll(self) -> int | None:
        """None while it runs; its exit code is not known."""
        self._wait(0)
        return 0 if self._ended else None

    def wait(self) -> None:
        """Wait for its end."""
        self._wait(None)

    def _wait(self, seconds: float | None) -> None:
        if not self._ended and select.select([self._descriptor], [], [], seconds)[0]:
            os.close(self._descriptor)
            self._ended = True


class Forker:
    """The process that is forked from; use it as a context."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-m", "tests.endurance.forking"]
        environment = {**os.environ, "PYTHONPATH": python_path(root)}
        self._process = subprocess.Popen(command, env=environment, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, arguments: list[str], folder: Path, output: Path, environment: dict[str, str]) -> Forked:
        """Start `mann-bench` with arguments in a folder; its output goes to a file."""
        asked = {"arguments": arguments, "folder": str(folder), "output": str(output), "environment": environment}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Forked(int(self._process.stdout.readline()))

    def __enter__(self) -> "Forker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def python_path(root: Path) -> str:
    """PYTHONPATH of a process that finds this checkout first, then what ours finds."""
    return os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))


def serve() -> bool:
    """Fork for each line. Returns True in a forked process, and False at the end of input."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        pid = os.fork()
        if not pid:
            begin(asked)
            return True
        print(pid, flush=True)
    return False


def begin(asked: dict[str, object]) -> None:
    """Make a forked process like one that was started anew."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(str(asked["folder"]))
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(str(asked["output"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor, own in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, own)
    os.close(nothing)
    os.close(output)
    environment = asked["environment"]
    assert isinstance(environment, dict)
    os.environ.update(environment)
    arguments = asked["arguments"]
    assert isinstance(arguments, list)
    sys.argv = ["mann-bench", *arguments]


if __name__ == "__main__" and serve():
    main()
