"""The driver's side of a measuring process: start it, send it commands, and find out how it ended."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mann_bench.data.errors import OUT_OF_MEMORY
from mann_bench.machine.control_groups import oom_kills
from mann_bench.machine.settings import worker_environment
from mann_bench.run.replies import Failure, ReplyT, Started, decode_reply

START_S = 300.0  # many processes may start at once on a busy machine
NOISE = ("USDT:", "[W", "[INFO")  # how lines on standard error begin that do not explain the end of a process


class WorkerProcess:
    """A worker process. If it hangs or dies, the answer to a command is a `Failure`.

    Args:
        threads: processors that it may use.
        checkout: folder whose code it runs; by default the code of this process.
    """

    MODULE = "mann_bench.worker"

    def __init__(self, threads: int, checkout: Path | None = None) -> None:
        self.used_s = 0.0
        self._unread = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        self._kills_before = oom_kills()
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.MODULE, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=worker_environment(threads, checkout),
            start_new_session=True,  # Ctrl-C is for the driver, which then ends the workers itself
        )

    def wait_until_started(self) -> Started | Failure:
        """Wait for its imports, which do not count as time of a case."""
        return self._ask({"do": "start"}, START_S, Started)

    def ask(self, command: dict[str, Any], timeout_s: float, kind: type[ReplyT]) -> ReplyT | Failure:
        """Send a command and wait for its reply. The time is added to `used_s`; at the timeout the process is killed."""
        began = time.monotonic()
        try:
            return self._ask(command, timeout_s, kind)
        finally:
            self.used_s += time.monotonic() - began

    def _ask(self, command: dict[str, Any], timeout_s: float, kind: type[ReplyT]) -> ReplyT | Failure:
        assert self._process.stdout is not None
        try:
            self.send(command)
        except BrokenPipeError:
            return self._death()
        received = b""
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not received.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.kill()
                    reason = f"no answer to {command['do']!r} within {timeout_s:.0f} s; the process was ended"
                    return Failure(status="timeout", reason=reason)
                part = os.read(self._process.stdout.fileno(), 2**16)
                if not part:
                    return self._death()
                received += part
        return decode_reply(received, kind)

    def send(self, command: dict[str, Any]) -> None:
        """Send a command without waiting for a reply; BrokenPipeError if the process has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(command) + "\n").encode())
        self._process.stdin.flush()

    def fileno(self) -> int:
        """The descriptor that replies arrive on, to wait for several workers at once (`selectors`)."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def read(self) -> list[dict[str, Any] | Failure]:
        """Wait for output and return the complete messages in it. The last one is a `Failure` if the process has ended."""
        part = os.read(self.fileno(), 2**16)
        *lines, self._unread = (self._unread + part).split(b"\n")
        messages: list[dict[str, Any] | Failure] = [json.loads(line) for line in lines]
        return messages if part else [*messages, self._death()]

    def stop(self) -> None:
        """Send SIGTERM: it ends as soon as it can."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)

    def wait(self, seconds: float) -> bool:
        """Wait for it to end by itself, and return whether it has. Its output meanwhile is discarded."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            with selectors.DefaultSelector() as selector:  # a full pipe would block it
                selector.register(self, selectors.EVENT_READ)
                if selector.select(min(0.1, seconds)) and not os.read(self.fileno(), 2**16):
                    time.sleep(0.01)
        return self._process.poll() is not None

    def _death(self) -> Failure:
        """How the process ended, from its exit code and the last line on its standard error."""
        code = self._process.wait()
        message = self._last_error_line()
        if code == -signal.SIGKILL:
            if oom_kills() > self._kills_before:
                return Failure(status="oom", reason="ended by the kernel's out-of-memory killer")
            return Failure(status="error", reason="killed by SIGKILL (kill -9)")
        if any(sign in message for sign in OUT_OF_MEMORY):
            return Failure(status="oom", reason=f"an allocation failed outside torch: {message}")
        end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        return Failure(status="error", reason=f"{end}{': ' + message if message else ''}")

    def _last_error_line(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        messages = [line.strip() for line in lines if line.strip() and not line.startswith(NOISE)]
        return messages[-1] if messages else ""

    def quit(self) -> None:
        """Tell it to end, and kill it if it does not within 5 s."""
        if self._process.poll() is not None:
            self.kill()
            return
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            assert self._process.stdin is not None
            self._process.stdin.write(b'{"do": "quit"}\n')
            self._process.stdin.close()
            self._process.wait(timeout=5)
        self.kill()

    def kill(self) -> None:
        """Kill the process and all it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert pipe is not None
                pipe.close()
        self._errors.close()
