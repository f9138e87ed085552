"""The one exception that a user of the command line may see: bad input, told as expected, got, what to do next."""

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # an OSError that freeing some space mends


class UsageError(ValueError):
    """Bad input from the user; the command line prints its message and exits with 2."""


OUT_OF_MEMORY = (  # what libraries say when an allocation fails, or a thread that wants a stack
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "CUDA out of memory",
    "Thread creation failed",
    "Resource temporarily unavailable",
)
