"""The one exception that a user of the command line may see: bad input, told as expected, got, what to do next."""


class UsageError(ValueError):
    """Bad input from the user; the command line prints its message and exits with 2."""
