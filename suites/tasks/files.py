"""Read data sets as they are distributed: archives, or the files unpacked from them, anywhere below a folder. Nothing is downloaded."""

import hashlib
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from mann_bench.data.errors import UsageError

DAMAGE = (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError)


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
        UsageError: nothing is there, or an archive is damaged.
    """
    for source in sources(data, archives, wanted, what):
        if source.is_dir():
            for path in _matching(source, wanted):
                yield path.relative_to(source).as_posix(), path.read_bytes()
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
            name, content = source.name, source.read_bytes()
            size_bytes = len(content)
        else:
            names_sizes = [(path.relative_to(source).as_posix(), path.stat().st_size) for path in _matching(source, wanted)]
            name, content = f"{len(names_sizes)} files", "".join(f"{name} {size}\n" for name, size in names_sizes).encode()
            size_bytes = sum(size for _, size in names_sizes)
        descriptions.append(f"{name}, {size_bytes} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    return "; ".join(descriptions)


def _matching(folder: Path, wanted: re.Pattern[str]) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if wanted.search(path.as_posix()) and path.is_file())


def _of_zip(path: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in sorted(filter(wanted.search, archive.namelist())):
            yield name, archive.read(name)


def _of_tar(path: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Read in the archive's own order: a compressed tar can only be read forwards."""
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member) if wanted.search(member.name) else None
            if content is not None:
                yield member.name, content.read()
