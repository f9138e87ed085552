"""Read data sets as they are distributed: archives, or the files unpacked from them, anywhere below a folder. Nothing is downloaded.

Archives are read in memory: nothing is unpacked to disk, so the names in them decide no place. Their sizes are limited.
"""

import bz2
import gzip
import hashlib
import lzma
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from io import BufferedIOBase
from pathlib import Path
from typing import IO, cast

from mann_bench.data.errors import UsageError
from mann_bench.data.units import format_bytes

MOST_FILE_BYTES = 64 * 2**20  # of one file; the largest of Omniglot and bAbI have some MiB
MOST_UNPACKED_BYTES = 2 * 2**30  # of all in an archive
MOST_HEADER_BYTES = 2**18  # that describe one file of a tar; they have some hundred
MOST_MEMBERS = 2**17  # of a tar; Omniglot has 32,460 images
COMPRESSIONS: Mapping[bytes, Callable[[Path], BufferedIOBase]] = {  # by a file's first bytes
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"\x5d\x00\x00": lzma.open,
}
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
        except (UsageError, MemoryError):
            raise
        except Exception as error:  # the readers of archives raise many types for a damaged one
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
    with ExitStack() as opened:
        stream = opened.enter_context(unpacked(path))
        headers = HeaderReader(path, stream)
        archive = opened.enter_context(tarfile.TarFile(fileobj=cast(IO[bytes], headers)))
        for number, member in enumerate(archive, 1):
            headers.next_file()
            if number > MOST_MEMBERS:
                raise UsageError(f"{path}: expected at most {MOST_MEMBERS:,} files, got more; pack only what belongs to the data")
            is_wanted = wanted.search(member.name) is not None
            if is_wanted and (member.issym() or member.islnk()):
                raise UsageError(f"{path}: expected files, got {member.name}, a link to {member.linkname}; fetch it again")
            if member.issparse():
                raise UsageError(f"{path}: expected files with all their bytes, got {member.name}, a sparse one; pack it without --sparse")
            if member.size < 0:
                raise tarfile.ReadError(f"{member.name} has {member.size} bytes")
            _check_size(path, member.name, member.size if is_wanted else 0, member.offset_data + member.size)
            if is_wanted and member.isreg():
                stream.seek(member.offset_data)
                content = stream.read(member.size)
                if len(content) < member.size:
                    raise tarfile.ReadError(f"{member.name} is cut off")
                yield member.name, content
        stream.seek(archive.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # a damaged header ends it for `tarfile`, without a word
            raise tarfile.ReadError(f"no header and no end of the archive at byte {archive.offset}")


def unpacked(path: Path) -> BufferedIOBase:
    """Open a file for reading what was compressed into it; one that is not compressed is read as it is."""
    with path.open("rb") as file:
        start = file.read(6)
    openers = [opener for magic, opener in COMPRESSIONS.items() if start.startswith(magic)]
    return openers[0](path) if openers else path.open("rb")


class HeaderReader:
    """The stream of a tar for `tarfile`, with a limit: `tarfile` takes a header's word for its size, and reads it whole."""

    def __init__(self, path: Path, stream: BufferedIOBase) -> None:
        self.path, self.stream = path, stream
        self.next_file()

    def next_file(self) -> None:
        """Begin to count anew: all headers of a file have been read."""
        self.left_bytes = MOST_HEADER_BYTES

    def read(self, size_bytes: int) -> bytes:
        """Read so many bytes; UsageError if the headers of one file are more than those of any data set."""
        if not 0 <= size_bytes <= self.left_bytes:
            most = format_bytes(MOST_HEADER_BYTES)
            raise UsageError(f"{self.path}: expected at most {most} of headers before a file, got more; pack it without them")
        self.left_bytes -= size_bytes
        return self.stream.read(size_bytes)

    def seek(self, offset: int) -> int:
        """Set the position in the stream."""
        return self.stream.seek(offset)

    def tell(self) -> int:
        """Return the position in the stream."""
        return self.stream.tell()


def _check_size(source: Path, name: str, size_bytes: int, unpacked_bytes: int = 0) -> None:
    """UsageError if a file, or all that an archive unpacks to until then, is larger than any data set's."""
    for what, size, most in ((name, size_bytes, MOST_FILE_BYTES), ("the archive", unpacked_bytes, MOST_UNPACKED_BYTES)):
        if size > most:
            raise UsageError(
                f"{source}: expected {what} to unpack to at most {format_bytes(most)}, got {format_bytes(size)}; fetch it again"
            )
