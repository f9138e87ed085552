"""Standard output and standard error that may be closed, full, or read by a program that ends early (`| head -1`)."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

GONE = (errno.EPIPE, errno.EIO)  # nobody reads any more: the pipe's reader or the terminal has gone


class Stream:
    """A standard stream. What nobody reads any more is dropped, and the command goes on.

    Args:
        stream: where the text goes.
        name: what error messages call it.
        may_be_lost: drop the text whatever the error is; for progress, which is not worth a run.
    """

    def __init__(self, stream: TextIO, name: str, *, may_be_lost: bool) -> None:
        self._stream, self._name, self._may_be_lost = stream, name, may_be_lost
        self.failure: OSError | None = None  # that was raised; a library may have ignored it

    def write(self, text: str) -> int:
        """Write, as a text file does."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, as a text file does."""
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            _discard(self._stream)
            if not self._may_be_lost and error.errno not in GONE:
                error.filename = self._name
                self.failure = error
                raise


@contextlib.contextmanager
def lasting_streams() -> Iterator[Stream]:
    """Let standard output and standard error outlive their readers, for as long as the context is open; yields standard output."""
    output, errors = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115  None: closed at the start
    if hasattr(output, "reconfigure"):
        output.reconfigure(errors="backslashreplace")  # a terminal may lack a letter
    shown, progress = Stream(output, "standard output", may_be_lost=False), Stream(errors, "standard error", may_be_lost=True)
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(progress):
        yield shown


def open_closed_streams() -> None:
    """Open the null device for each of the descriptors 0 to 2 that is closed.

    Otherwise the next file that is opened takes the number, and receives what libraries print.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _discard(stream: TextIO) -> None:
    """Let the descriptor lead to the null device, so that what is still buffered does not fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):  # no descriptor, or a closed one
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
