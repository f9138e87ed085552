"""Read data sets as they are distributed: archives, or the files unpacked from them, anywhere below a folder. Nothing is downloaded.

Archives are read in memory: nothing is unpacked to disk, so the names in them decide no place. Their sizes are limited.
"""

import hashlib
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from mann_bench.data.errors import UsageError
from mann_bench.data.units import format_bytes

DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
)  # last: an unknown compression
MOST_FILE_BYTES = 64 * 2**20  # of one file; the largest of Omniglot and bAbI have some MiB
MOST_UNPACKED_BYTES = 2 * 2**30  # of all in an archive
ENCRYPTED = 1  # bit of a zip member's flags


def members(data: Path, archives: str, wanted: re.Pattern[str], what: str) -> Iterator[tuple[str, bytes]]:
    """Read the wanted files.

    Args:
        data: an archive (zip or tar, any compression), or a folder with archives or unpacked files.
        archives: regular expression of the names of archives.
        wanted: pattern of the paths of wanted files.
        what: the data set, for error messages.

    Yields:
        (path, content), unpacked files first, then those of each archive. They are sorted by name, except in a tar, which is read in
        its own order.

    Raises:
        UsageError: nothing is there, or an archive is damaged, encrypted or unpacks to too much.
    """
    for source in sources(data, archives, wanted, what):
        if source.is_dir():
            yield from _of_folder(source, wanted)
            continue
        try:
            yield from _of_zip(source, wanted) if zipfile.is_zipfile(source) else _of_tar(source, wanted)
        except DAMAGE as error:
            raise UsageError(f"{source}: expected a zip or tar archive with {what}, got a damaged one ({error}); fetch it again") from error


def sources(data: Path, archives: str, wanted: re.Pattern[str], what: str) -> list[Path]:
    """Sources that `members` reads: the folder itself if it has unpacked files, then its archives by name."""
    if not data.exists():
        raise UsageError(f"--data {data}: expected a folder or archive with {what}, got a path that does not exist; name your copy")
    if data.is_file():
        return [data]
    if not data.is_dir():
        raise UsageError(f"--data {data}: expected a folder or archive with {what}, got a device or pipe; name your copy")
    unpacked = [data] if next(_matching(data, wanted), None) else []
    packed = sorted(path for path in data.rglob("*") if re.fullmatch(archives, path.name) and path.is_file())
    if not unpacked + packed:
        names = ", ".join(sorted(path.name for path in data.iterdir())[:5]) or "nothing"
        raise UsageError(f"--data {data}: expected {what}, packed or unpacked, got a folder with {names}; name the folder of your copy")
    return unpacked + packed


def fingerprint(data: Path, archives: str, wanted: re.Pattern[str], what: str) -> str:
    """Identify the data, wherever they are stored: name, bytes and SHA-256 of each archive.

    For unpacked files, the SHA-256 is that of the list of their names and sizes.
    """
    descriptions = []
    for source in sources(data, archives, wanted, what):
        if source.is_file():
            with source.open("rb") as file:
                name, size_bytes, digest = source.name, source.stat().st_size, hashlib.file_digest(file, "sha256")
        else:
            names_sizes = [(path.relative_to(source).as_posix(), path.stat().st_size) for path in _matching(source, wanted)]
            listing = "".join(f"{name} {size}\n" for name, size in names_sizes)
            digest = hashlib.sha256(listing.encode(errors="backslashreplace"))
            name, size_bytes = f"{len(names_sizes)} files", sum(size for _, size in names_sizes)
        descriptions.append(f"{name}, {size_bytes} bytes, sha256 {digest.hexdigest()}")
    return "; ".join(descriptions)


def _matching(folder: Path, wanted: re.Pattern[str]) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if wanted.search(path.as_posix()) and path.is_file())


def _of_folder(folder: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    for path in _matching(folder, wanted):
        _check_size(folder, path.name, path.stat().st_size)
        yield path.relative_to(folder).as_posix(), path.read_bytes()


def _of_zip(path: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    unpacked_bytes = 0
    with zipfile.ZipFile(path) as archive:
        for member in sorted((info for info in archive.infolist() if wanted.search(info.filename)), key=lambda info: info.filename):
            if member.flag_bits & ENCRYPTED:
                raise UsageError(f"{path}: expected files without a password, got an encrypted {member.filename}; decrypt the archive")
            unpacked_bytes += member.file_size
            _check_size(path, member.filename, member.file_size, unpacked_bytes)
            yield member.filename, archive.read(member)  # never longer than it says


def _of_tar(path: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Read in the archive's own order: a compressed tar can only be read forwards."""
    with tarfile.open(path) as archive:
        for member in archive:
            is_wanted = wanted.search(member.name) is not None
            if is_wanted and (member.issym() or member.islnk()):
                raise UsageError(f"{path}: expected files, got {member.name}, a link to {member.linkname}; fetch it again")
            _check_size(path, member.name, member.size if is_wanted else 0, member.offset_data + member.size)
            content = archive.extractfile(member) if is_wanted else None
            if content is not None:
                yield member.name, content.read()


def _check_size(source: Path, name: str, size_bytes: int, unpacked_bytes: int = 0) -> None:
    """UsageError if a file, or all that an archive unpacks to until then, is larger than any data set's."""
    for what, size, most in ((name, size_bytes, MOST_FILE_BYTES), ("the archive", unpacked_bytes, MOST_UNPACKED_BYTES)):
        if size > most:
            raise UsageError(
                f"{source}: expected {what} to unpack to at most {format_bytes(most)}, got {format_bytes(size)}; fetch it again"
            )
