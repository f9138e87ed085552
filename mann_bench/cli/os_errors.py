"""What the system refuses (OSError), as a sentence that names the file and says what to do."""

import errno
import os
from pathlib import Path

from mann_bench.data.errors import DISK_FULL

# Errors of a path that the user gave.
BAD_PATH = {
    errno.EACCES: "change its permissions, or name another path",
    errno.EPERM: "change its permissions, or name another path",
    errno.EROFS: "name a path on a disk that can be written",
    errno.ENOENT: "check the path: nothing is there, and nothing can be made there",
    errno.ENOTDIR: "name a folder: a part of this path is a file",
    errno.EISDIR: "name a file: this is a folder",
    errno.EEXIST: "name another path, or remove what is there",
    errno.ENOTEMPTY: "name another path, or remove what is there",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "check the path: its symbolic links lead in a circle",
    errno.EINVAL: "name another path",
}
OTHER = dict.fromkeys(DISK_FULL, "free some space, or name a path on another disk") | {
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs: the machine has too many files open",
    errno.EAGAIN: "allow more processes (ulimit -u), or close others",
    errno.ENOMEM: "close other programs: the machine has no memory left",
    errno.EIO: "check the disk",
}


def explain(error: OSError, folder: Path | None = None) -> str:
    """Return a sentence: the file at fault, what is wrong with it, what to do.

    Args:
        folder: named if the error names no file, as that of a full disk.
    """
    path = error.filename if error.filename is not None else folder
    what = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    remedy = {**BAD_PATH, **OTHER}.get(error.errno or 0)
    return (f"{os.fsdecode(path)}: " if isinstance(path, str | bytes | os.PathLike) else "") + what + (f"; {remedy}" if remedy else "")


def is_usage(error: OSError) -> bool:
    """Return whether the path that the user gave is at fault."""
    return error.errno in BAD_PATH
