"""The end of a command by a signal: Ctrl-C, SIGTERM and SIGHUP all raise `Stopped`, so that what is open is closed and nothing is left."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_S = 1.0  # signals that follow this soon belong to the first: a scheduler signals a process and its group
AGAIN_S = 0.02  # after which a `Stopped` that came to nothing is raised again


class Stopped(BaseException):
    """A signal asks to end. No error: whoever handles errors must let it pass."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)
        self.name = self.number.name
        self.exit_code = 128 + number


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, such a signal raises `Stopped` in the main thread. A later one does so again, to end what takes too long.

    A signal that this program was started to ignore (nohup) stays ignored. Python drops an exception that a handler raises inside of `__del__`
    or the callback of a weak reference, as each import runs one; a `Stopped` that is lost so is raised again by a timer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last_s, lost = -SAME_S, signal.SIGTERM

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal last_s
        before_s, last_s = last_s, time.monotonic()
        if last_s - before_s >= SAME_S:
            raise Stopped(number)

    def stop_again(*_: object) -> None:
        raise Stopped(lost)

    def note_lost(dropped: "sys.UnraisableHookArgs") -> None:
        nonlocal lost
        if not isinstance(dropped.exc_value, Stopped):
            hook(dropped)
            return
        lost = dropped.exc_value.number
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)

    hook, before = sys.unraisablehook, {number: signal.getsignal(number) for number in (*STOPPING, signal.SIGALRM)}
    handlers = {number: stop for number in STOPPING if before[number] not in (signal.SIG_IGN, None)} | {signal.SIGALRM: stop_again}
    try:
        sys.unraisablehook = note_lost
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in handlers:
            signal.signal(number, before[number])
        sys.unraisablehook = hook
