"""The parent of a worker process: it ends the worker and all that the worker started, when the driver says so or dies itself.

    python -I warden.py CPUS COMMAND...        CPUS: processors that the worker may run on, as 1,3; empty: all

Only the driver holds the other end of the warden's standard input: when it closes, all is over. The warden also reads what the worker
prints, without end, and keeps the last of it: `KEPT_BYTES` are written to its standard output once the worker is gone. Then it ends as the
worker did, with the same exit code or by the same signal. SIGTERM, SIGHUP and SIGINT are passed on to the worker.

It is a process of its own because a worker may hang in a call, or still import, when its driver dies. (The kernel's PR_SET_PDEATHSIG alone
does not do: it means the death of the *thread* that started a process. The warden has one thread only.) It is run as a file and imports
nothing of the project: it also guards the workers of older commits.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys

KEPT_BYTES = 32 * 2**10  # less than a pipe holds, so that writing them never waits
PARENT_DEATH, SUBREAPER = 1, 36  # prctl's PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER
PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def main() -> None:
    """Start the worker, wait for the end of it or of the driver, and leave no process behind."""
    set_process_option(SUBREAPER, 1)  # what a worker's children leave behind becomes a child of the warden
    signals, signals_in = os.pipe()
    os.set_blocking(signals_in, False)
    signal.set_wakeup_fd(signals_in)
    for number in (*PASSED_ON, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    printed, printed_in = os.pipe()
    worker = start(sys.argv[2:], sys.argv[1], printed_in)
    os.close(printed_in)
    kept, status = guard(worker, printed, signals)
    killed = end_children(worker)
    status = killed if status is None else status
    os.set_blocking(printed, False)
    with contextlib.suppress(BlockingIOError):  # a process that was not a child may still hold the other end
        while part := os.read(printed, 2**16):
            kept = (kept + part)[-KEPT_BYTES:]
    with contextlib.suppress(BrokenPipeError):  # the driver is gone
        os.write(1, kept)
    end_as(status)


def start(command: list[str], cpus: str, output: int) -> int:
    """Start the worker in a session of its own and return its process id; it dies with this process."""
    warden = os.getpid()
    worker = os.fork()
    if worker:
        return worker
    try:
        os.setsid()
        set_process_option(PARENT_DEATH, signal.SIGKILL)
        if os.getppid() == warden:  # else it died before that call
            if cpus:
                os.sched_setaffinity(0, map(int, cpus.split(",")))
            # Until it has imported (`channel.py`): a KeyboardInterrupt in an import may come out as another error.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    os._exit(127)


def guard(worker: int, printed: int, signals: int) -> tuple[bytes, int | None]:
    """Wait until the worker or the driver ends. Returns the last of what was printed, and the worker's wait status if it has ended."""
    kept = b""
    watched = [0, printed, signals]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if printed in ready:
            part = os.read(printed, 2**16)
            kept = (kept + part)[-KEPT_BYTES:]
            if not part:
                watched.remove(printed)  # the worker has closed its output, which is no reason to end it
        if signals in ready:
            numbers = os.read(signals, 2**10)
            for number in set(numbers) & set(PASSED_ON):
                os.kill(worker, number)
            if signal.SIGCHLD in numbers and (status := reap(worker)) is not None:
                return kept, status
        if 0 in ready and not os.read(0, 1):
            return kept, None


def reap(worker: int) -> int | None:
    """Wait for children that have ended; the worker's wait status if it is among them."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            if ended[0] == worker:
                return ended[1]
    return None


def end_children(worker: int) -> int:
    """Kill all children until there are none: what a child leaves behind becomes a child too. Returns the worker's wait status, or 0."""
    statuses = {}
    with contextlib.suppress(OSError):
        os.killpg(worker, signal.SIGKILL)
    while pids := children():
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                statuses[pid] = os.waitpid(pid, 0)[1]
    with contextlib.suppress(ChildProcessError):  # where children cannot be listed
        statuses[worker] = os.waitpid(worker, 0)[1]
    return statuses.get(worker, 0)


def children() -> list[int]:
    """Processes whose parent is this one, as Linux lists them."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc") if sys.platform == "linux" else []):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(name))
    return found


def end_as(status: int) -> None:
    """End with the exit code or by the signal of a wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the worker has left its own
        with contextlib.suppress(OSError):  # SIGKILL needs no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def set_process_option(option: int, value: int) -> None:
    """Call Linux's prctl; nothing elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


if __name__ == "__main__":
    main()
