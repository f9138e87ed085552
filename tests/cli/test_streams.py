"""Standard output and standard error that are closed, full, or read by a program that has ended."""

import contextlib
import errno
import io
import os
import subprocess
import sys

import pytest

from mann_bench.cli import app as cli
from mann_bench.cli.streams import Stream


class Refusing(io.StringIO):
    """A text stream that fails on every write and has no file descriptor."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))

    def flush(self):
        self.write("")

    def close(self):
        pass  # which would flush


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_an_error_while_printing_progress_does_not_end_a_run(number):
    stream = Stream(Refusing(number), "standard error", may_be_lost=True)
    assert stream.write("progress") == 8
    stream.flush()


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO])
def test_output_without_a_reader_is_dropped(number):
    Stream(Refusing(number), "standard output", may_be_lost=False).write("a result")


def test_output_that_cannot_be_written_is_an_error():
    with pytest.raises(OSError, match="standard output"):
        Stream(Refusing(errno.ENOSPC), "standard output", may_be_lost=False).write("a result")


@pytest.mark.parametrize(("number", "code"), [(errno.EPIPE, 0), (errno.ENOSPC, 1)])
def test_a_command_whose_output_goes_away(capsys, monkeypatch, number, code):
    monkeypatch.setattr(sys, "argv", ["mann-bench", "list", "suites"])
    with contextlib.redirect_stdout(Refusing(number)), pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == code
    assert capsys.readouterr().err == ("" if code == 0 else "error: standard output: No space left on device; " + SPACE)


SPACE = "free some space, or name a path on another disk\n"
PROGRAM = f'exec "{sys.executable}" -m mann_bench --help'  # which imports no torch


@pytest.mark.parametrize(
    ("redirection", "code", "error"),
    [
        ("| head -c 1 > /dev/null; exit ${PIPESTATUS[0]}", 0, ""),
        (">&-", 0, ""),
        ("> /dev/full", 1, "error: standard output: No space left on device; " + SPACE),
        ("2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
    ],
)
def test_the_interpreter_prints_nothing_at_its_end(redirection, code, error):
    if redirection == "> /dev/full" and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    shell = PROGRAM.replace("exec ", "") if redirection.startswith("|") else PROGRAM
    done = subprocess.run(["bash", "-c", f"{shell} {redirection}"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (code, error)
