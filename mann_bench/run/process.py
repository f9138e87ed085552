"""The driver's side of a measuring process: start it, send it commands, and find out how it ended."""

import contextlib
import json
import os
import resource
import selectors
import signal
import site
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from mann_bench.data.errors import OUT_OF_MEMORY
from mann_bench.data.fields import Json
from mann_bench.machine.control_groups import oom_kills
from mann_bench.machine.settings import worker_environment
from mann_bench.run import warden
from mann_bench.run.replies import Failure, Killed, ReplyT, Started, decode_reply
from mann_bench.run.words import last_words, printed_text

START_S = 300.0  # many processes may start at once on a busy machine
END_S = 5.0  # for a process to end that was told to
DESCRIPTORS = 4  # files that this process holds open for each worker
SPARE_DESCRIPTORS = 24  # for all else, such as results, and what is open while a process starts
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)  # signals that do not come from a fault of the process
OWN_CODE = Path(__file__).resolve().parents[2]
# Starts a worker that takes THREADS only, reads commands from standard input and writes replies to standard output.
ON_STANDARD_PIPES = "import os, sys; os.dup2(int(sys.argv[1]), 0); os.dup2(int(sys.argv[2]), 1); os.execv(sys.executable, sys.argv[3:])"


@dataclass(frozen=True)
class Code:
    """Which code a worker runs: mann-bench's, and the user's.

    Attributes:
        checkout: folder whose mann-bench it runs; None: that of this process.
        folder: its current folder, whose modules it can import after all others; None: that of this process.
        own_folders: folders of the user's that it imports from before it looks among installed packages; not for a `checkout`.
        python_path: its PYTHONPATH; None: that of this process.
    """

    checkout: Path | None = None
    folder: Path | None = None
    own_folders: tuple[Path, ...] = ()
    python_path: str | None = None


SAME_CODE = Code()


class WorkerProcess:
    """A worker process. If it hangs or dies, the answer to a command is a `Failure`.

    It ends with this process, however that ends, and so does all that it started (`warden.py`).

    Args:
        threads: that it may use.
        code: that it runs; by default that of this process.
        cpus: processors that it may run on; by default all.

    Attributes:
        used_s: time that its commands have taken.
        printed: the end of what it printed, once it has ended.
    """

    MODULE = "mann_bench.worker"

    def __init__(self, threads: int, code: Code = SAME_CODE, cpus: Sequence[int] = ()) -> None:
        self.used_s = 0.0
        self.printed = b""
        self._unread = b""
        self._number = 0
        self._code: int | None = None
        self._kills_before = oom_kills()
        folder = code.checkout or OWN_CODE
        self._is_old = not (folder / "mann_bench" / "run" / "channel.py").is_file()
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            commands, self._commands = pipe(theirs, ours)
            self._replies, replies = pipe(ours, theirs)
            ends = [str(commands.fileno()), str(replies.fileno())]
            command = [sys.executable, "-m", self.MODULE, *ends, *map(str, code.own_folders)]
            path = [folder] if code.checkout or not is_installed(folder) else []
            if self._is_old:
                command = [sys.executable, "-c", ON_STANDARD_PIPES, *ends, sys.executable, "-m", self.MODULE, str(threads)]
                path.append(Path.cwd())  # a new worker adds the current folder itself, as the last
            self._process = subprocess.Popen(
                [sys.executable, "-I", warden.__file__, ",".join(map(str, cpus)), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(commands.fileno(), replies.fileno()),
                env=worker_environment(threads, path, code.python_path),
                cwd=code.folder,
                start_new_session=True,  # Ctrl-C is for the driver, which then ends the workers itself
            )
            ours.pop_all()  # stays open

    def wait_until_started(self) -> Started | Failure:
        """Wait for its imports, which do not count as time of a case."""
        return self._ask({"do": "start"}, START_S, Started)

    def ask(self, command: Mapping[str, Json], timeout_s: float, kind: type[ReplyT]) -> ReplyT | Failure:
        """Send a command and wait for its reply. The time is added to `used_s`; at the timeout the process is killed."""
        began = time.monotonic()
        try:
            return self._ask(command, timeout_s, kind)
        finally:
            self.used_s += time.monotonic() - began

    def _ask(self, command: Mapping[str, Json], timeout_s: float, kind: type[ReplyT]) -> ReplyT | Failure:
        self._number += 1
        try:
            self.send(command if self._is_old else {"number": self._number, **command})
        except BrokenPipeError:
            return self._death()
        deadline = time.monotonic() + timeout_s
        while True:
            if not wait_for(self, max(0.0, deadline - time.monotonic())):
                self.kill()
                reason = f"no answer to {command['do']!r} within {timeout_s:.0f} s; the process was ended"
                return Failure(status="timeout", reason=reason)
            lines, death = self.receive()
            if len(lines) > 1:
                return Failure(status="error", reason=f"expected one reply to {command['do']!r}, got {len(lines)}")
            if lines:
                return decode_reply(lines[0], kind, None if self._is_old else self._number)
            if death is not None:
                return death

    def send(self, command: Mapping[str, Json]) -> None:
        """Send a command without waiting for a reply; BrokenPipeError if the process has ended."""
        self._commands.write((json.dumps(command) + "\n").encode())

    def fileno(self) -> int:
        """The descriptor that replies arrive on, to wait for several workers at once (`selectors`)."""
        return self._replies.fileno()

    def receive(self) -> tuple[list[bytes], Failure | None]:
        """Wait for output. Returns the complete lines of it, and how the process ended if it has."""
        part = os.read(self.fileno(), 2**16)
        *lines, self._unread = (self._unread + part).split(b"\n")
        return lines, None if part else self._death()

    def stop(self) -> None:
        """Send SIGTERM: it ends as soon as it can."""
        self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait for it to end by itself. Its replies meanwhile are discarded."""
        deadline = time.monotonic() + seconds
        while wait_for(self, max(0.0, deadline - time.monotonic())) and os.read(self.fileno(), 2**16):
            pass  # a full pipe would block it

    def _death(self) -> Failure:
        """How the process ended, from its exit code and what it printed last."""
        self.kill()
        assert self._code is not None
        if self._code == -signal.SIGKILL and oom_kills() > self._kills_before:
            return Failure(status="oom", reason="ended by the kernel's out-of-memory killer")
        message = last_words(self.printed)
        if -self._code in FROM_OUTSIDE:
            return Killed(status="error", reason=f"killed by {signal.Signals(-self._code).name}")
        if any(sign in message for sign in OUT_OF_MEMORY):
            return Failure(status="oom", reason=f"an allocation failed outside torch: {message}")
        end = f"killed by {signal.Signals(-self._code).name}" if self._code < 0 else f"exited with code {self._code}"
        return Failure(status="error", reason=f"{end}{': ' + message if message else ''}")

    @property
    def output(self) -> str | None:
        """The end of what it printed, once it has ended; None if it printed nothing."""
        return printed_text(self.printed) or None

    def quit(self) -> None:
        """Tell it to end, and kill it if it does not within `END_S`."""
        if self._code is None:
            with contextlib.suppress(OSError):
                self.send({"do": "quit"})
                self.wait(END_S)
        self.kill()

    def kill(self) -> None:
        """Kill the process and all it started; nothing if it has ended."""
        if self._code is not None:
            return
        try:
            self.printed, _ = self._process.communicate(timeout=END_S)  # closes the warden's input, which ends the worker
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.printed, _ = self._process.communicate()
        self._code = self._process.returncode
        self._commands.close()
        self._replies.close()


def most_workers(threads: int) -> int:
    """How many workers, pinned to as many processors, this process may hold at once by its limit of open files; at least one."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(os.listdir("/dev/fd"))
    return max(1, (limit - open_now - SPARE_DESCRIPTORS - threads) // DESCRIPTORS)


def pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[FileIO, FileIO]:
    """Open a pipe; each end is closed with the stack given for it."""
    read, write = os.pipe()
    return reader.enter_context(FileIO(read, "r")), writer.enter_context(FileIO(write, "w"))


def wait_for(worker: WorkerProcess, seconds: float) -> bool:
    """Whether there is something to read from a worker, or its end, within so many seconds."""
    with selectors.DefaultSelector() as selector:
        selector.register(worker, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def is_installed(folder: Path) -> bool:
    """Whether Python finds the packages of a folder by itself, and after its own modules."""
    return str(folder) in (*site.getsitepackages(), site.getusersitepackages())
