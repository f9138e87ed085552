"""Files that survive a crash: written whole or not at all, synced to disk, kept for one writer at a time."""

import fcntl
import os
import secrets
import warnings
from pathlib import Path

from mann_bench.data.errors import StorageWarning


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, and sync it to disk. Of several writers at once, the last one's file stands whole."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)  # a full disk needs its room
        error.filename = str(path)
        raise
    sync_folder(path.parent)


def remove_torn(path: Path) -> None:
    """Remove what `write_atomically` leaves of a file beside it where the process is killed meanwhile."""
    for torn in path.parent.glob(f"{path.name}*.part"):
        torn.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Sync a folder to disk: which files it has."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_locked(path: Path) -> int:
    """Open a file to append to it, and keep other processes from doing so until the descriptor is closed.

    A file system without locks is warned of: there nothing keeps a second writer out.

    Raises:
        BlockingIOError: another process has opened it so.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError as error:
        warnings.warn(
            f"{path}: this file system has no locks ({os.strerror(error.errno or 0)}): see to it that no other mann-bench writes there",
            StorageWarning,
            stacklevel=2,
        )
    return descriptor
