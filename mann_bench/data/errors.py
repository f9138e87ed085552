"""The one exception that a user of the command line may see: bad input, told as expected, got, what to do next."""

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # an OSError that freeing some space mends


class UsageError(ValueError):
    """Bad input from the user; the command line prints its message and exits with 2."""


OUT_OF_MEMORY = ("allocate memory", "not enough memory", "bad_alloc", "CUDA out of memory")  # what libraries say when an allocation fails
