"""What a user of the command line sees (expected, got, what to do next), and how to recognise some failures of a machine."""

import difflib
import errno

from pydantic import ValidationError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors that freeing disk space solves
OUT_OF_MEMORY = ("allocate memory", "not enough memory", "bad_alloc", "CUDA out of memory")  # texts of failed allocations


class UsageError(ValueError):
    """Bad input from the user; the command line prints its message and exits with 2."""


class StorageWarning(UserWarning):
    """What a user should know of a run's folder, though the command goes on; the command line prints it as a sentence."""


def first_error(error: ValidationError, *, show_input: bool = True) -> str:
    """The first of pydantic's complaints: `field: what is wrong, got value`."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    text = ": ".join(filter(None, (place, first["msg"].removeprefix("Value error, "))))
    return f"{text}, got {first['input']!r}" if show_input else text


def did_you_mean(name: str, known: list[str]) -> str:
    """A hint such as `; did you mean 'quick'?`, or an empty string if no known name is similar."""
    near = difflib.get_close_matches(name, known, n=3)
    if not near:
        return ""
    same_letters = [word for word in near if sorted(word) == sorted(name)]  # `sma` is rather `sam` than `sdm`
    return f"; did you mean {[*same_letters, *near][0]!r}?"
