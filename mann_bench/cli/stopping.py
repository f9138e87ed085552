"""The end of a command by a signal: Ctrl-C, SIGTERM and SIGHUP all raise `Stopped`, so that what is open is closed and nothing is left."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_S = 1.0  # signals that follow this soon belong to the first: a scheduler signals a process and its group


class Stopped(BaseException):
    """A signal asks to end. No error: whoever handles errors must let it pass."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name
        self.exit_code = 128 + number


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, such a signal raises `Stopped` in the main thread. A later one does so again, to end what takes too long.

    A signal that this program was started to ignore (nohup) stays ignored.
    """
    last_s = -SAME_S

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal last_s
        before_s, last_s = last_s, time.monotonic()
        if last_s - before_s >= SAME_S:
            raise Stopped(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: handler for number in STOPPING if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
