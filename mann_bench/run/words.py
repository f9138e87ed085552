"""What goes wrong, in words that a record can hold: short, printable, whatever a model says."""

import contextlib
import traceback

from mann_bench.data.text import visible

REASON_CHARACTERS = 500
OUTPUT_CHARACTERS = 4000
NOISE = ("USDT:", "[W", "[INFO")  # how lines begin that do not explain the end of a process
FAULT_HANDLER = "Fatal Python error: "  # how the report of Python's fault handler begins


def reason_line(text: str) -> str:
    """The first line of a text, made visible, then cut to `REASON_CHARACTERS`."""
    line = visible(text.strip().partition("\n")[0][: REASON_CHARACTERS + 1])
    return line if len(line) <= REASON_CHARACTERS else line[: REASON_CHARACTERS - 3] + "..."


def text_of(error: BaseException) -> str:
    """What an exception says; one of a user's model may not even be able to."""
    try:
        return str(error).strip()
    except Exception:
        return "(it cannot say what)"


def describe(error: BaseException) -> str:
    """`TypeError: what it says`, in one line."""
    return reason_line(f"{type(error).__name__}: {text_of(error)}")


def print_exception(error: BaseException) -> None:
    """Print an exception and where it came from on standard error, as far as it can be printed."""
    with contextlib.suppress(Exception):
        traceback.print_exception(error)


def printed_text(printed: bytes) -> str:
    """The last `OUTPUT_CHARACTERS` of what a process printed, as text without control characters."""
    text = printed.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return "".join(character for character in text if character.isprintable() or character in "\n\t")[-OUTPUT_CHARACTERS:]


def last_words(printed: bytes) -> str:
    """The line that explains the end of a process: the last that it printed itself, else where Python's fault handler found it."""
    text = printed.decode(errors="replace")
    own, found, report = text.rpartition(FAULT_HANDLER)
    own, report = (own, report) if found else (text, "")
    lines = [line.strip() for line in own.splitlines() if line.strip() and not line.startswith(NOISE)]
    frames = [line.strip() for line in report.splitlines() if line.strip().startswith("File ")]
    return reason_line((lines[-1:] or frames[:1] or [""])[0])
