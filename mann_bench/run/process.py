"""The driver's end of a measuring process: start it, ask it, outlive it, and say how it ended."""

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
from mann_bench.machine.environment import worker_environment

START_S = 300.0  # many start at once on a busy machine
QUIET_LINES = ("USDT:", "[W", "[INFO")  # what libraries say on standard error that explains nothing


class WorkerProcess:
    """One worker; every `ask` returns a reply, or a status and a reason if the process hung or died. It runs the code of `checkout`, a
    folder, if given.
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

    def wait_until_started(self) -> dict[str, Any]:
        """Until it has imported what it needs, which is no part of a case's budget."""
        return self._ask({"do": "start"}, START_S)

    def ask(self, command: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a command and wait for its reply."""
        began = time.monotonic()
        try:
            return self._ask(command, timeout_s)
        finally:
            self.used_s += time.monotonic() - began

    def _ask(self, command: dict[str, Any], timeout_s: float) -> dict[str, Any]:
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
                    return {
                        "status": "timeout",
                        "reason": f"no answer to {command['do']!r} within {timeout_s:.0f} s; the process was ended",
                    }
                part = os.read(self._process.stdout.fileno(), 2**16)
                if not part:
                    return self._death()
                received += part
        return dict(json.loads(received))

    def send(self, command: dict[str, Any]) -> None:
        """Send a command without waiting for a reply; BrokenPipeError if there is nobody to read it."""
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(command) + "\n").encode())
        self._process.stdin.flush()

    def fileno(self) -> int:
        """Of the pipe that replies come through, to wait for several workers at once."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def read(self) -> list[dict[str, Any]]:
        """The replies that have come, at least a part of one; the last one is a status and a reason where the process has ended."""
        part = os.read(self.fileno(), 2**16)
        *lines, self._unread = (self._unread + part).split(b"\n")
        replies = [dict(json.loads(line)) for line in lines]
        return replies if part else [*replies, self._death()]

    def stop(self) -> None:
        """Ask it by a signal to end as soon as it can."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)

    def wait(self, seconds: float) -> bool:
        """Whether it ends by itself within so many seconds; what it says meanwhile is not kept."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            with selectors.DefaultSelector() as selector:  # a full pipe would hold it
                selector.register(self, selectors.EVENT_READ)
                if selector.select(min(0.1, seconds)) and not os.read(self.fileno(), 2**16):
                    time.sleep(0.01)
        return self._process.poll() is not None

    def _death(self) -> dict[str, Any]:
        code = self._process.wait()
        said = self._last_words()
        if code == -signal.SIGKILL:
            if oom_kills() > self._kills_before:
                return {"status": "oom", "reason": "ended by the kernel's out-of-memory killer"}
            return {"status": "error", "reason": "killed by SIGKILL (kill -9)"}
        if any(sign in said for sign in OUT_OF_MEMORY):
            return {"status": "oom", "reason": f"an allocation failed outside torch: {said}"}
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        return {"status": "error", "reason": f"{how}{': ' + said if said else ''}"}

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        telling = [line.strip() for line in lines if line.strip() and not line.startswith(QUIET_LINES)]
        return telling[-1] if telling else ""

    def quit(self) -> None:
        """Ask it to end; end it if it does not, or has ended already."""
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
        """End the process and all it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert pipe is not None
                pipe.close()
        self._errors.close()


def oom_kills() -> int:
    """How many processes the kernel's out-of-memory killer has ended here (this control group, else this machine)."""
    for path, key in (("/sys/fs/cgroup/memory.events", "oom_kill"), ("/proc/vmstat", "oom_kill")):
        if Path(path).is_file():
            for line in Path(path).read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == key:
                    return int(value)
    return 0
