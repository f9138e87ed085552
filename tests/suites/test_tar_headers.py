"""What describes the files of a tar may be of any size, or nonsense: it fills no memory, ends no loop late, and is told in a sentence."""

import contextlib
import gzip
import io
import random
import re
import tarfile
import tracemalloc

import pytest

from mann_bench.data.errors import UsageError
from mann_bench.suites.tasks import files
from mann_bench.suites.tasks.files import MOST_HEADER_BYTES, members

WANTED = re.compile(r"part\d\.txt$")
ARGUMENTS = (r"set\w*\.tar\.\w+", WANTED, "the set")
BLOCK = 512


def read(archive):
    return list(members(archive, *ARGUMENTS))


def header(name, size, kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(content):
    return content + bytes(-len(content) % BLOCK)


def pax(*texts):
    """A PAX header that says so: `10 path=x` and a line break for `path=x`, whose length is the number before it."""
    records = b""
    for text in texts:
        length = next(number for number in range(2**20) if number == len(f"{number} {text}\n"))
        records += f"{length} {text}\n".encode()
    return header("h", len(records), tarfile.XHDTYPE) + padded(records)


FILE = header("part1.txt", 3) + padded(b"one")
END = bytes(2 * BLOCK)


def packed(tmp_path, *parts):
    path = tmp_path / "set.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for part in parts:
            file.write(part)
    return path


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_a_header_of_any_size_is_not_read(tmp_path, kind):
    archive = packed(tmp_path, header("h", 2**26, kind), bytes(2**26), FILE, END)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="expected at most 256 KiB of headers before a file, got more"):
            read(archive)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("part", [pax("comment=" + "x" * 400), header("h", 400, tarfile.GNUTYPE_LONGNAME) + bytes(BLOCK)])
def test_many_headers_before_one_file_are_one_size(tmp_path, part):
    with pytest.raises(UsageError, match=r"set\.tar\.gz: expected"):
        read(packed(tmp_path, *[part] * (MOST_HEADER_BYTES // BLOCK), FILE, END))


def test_each_file_may_have_headers_of_its_own(tmp_path):
    long_name = "x/" * 200 + "part2.txt"
    parts = [pax(f"comment={'x' * 3000}") + FILE] * 100
    found = read(packed(tmp_path, *parts, pax(f"path={long_name}"), header("short", 3), padded(b"two"), END))
    assert found == [("part1.txt", b"one")] * 100 + [(long_name, b"two")]


def sparse_header(extended):
    block = bytearray(header("part2.txt", 0, tarfile.GNUTYPE_SPARSE))
    block[483:495] = b"00000001000\0"
    block[482] = extended
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([sparse_header(0)], "a sparse one; pack it without --sparse"),
        ([pax("GNU.sparse.map=0,1"), header("part2.txt", 1), padded(b"x")], "a sparse one"),
        ([sparse_header(1), (b"00000000001\0" * 42 + b"\1" + bytes(7)) * 2000], "of headers before a file, got more"),
    ],
)
def test_sparse_files_are_refused(tmp_path, parts, words):
    with pytest.raises(UsageError, match=words):
        read(packed(tmp_path, FILE, *parts, END))


@pytest.mark.parametrize(
    "parts",
    [
        [pax("size=-512"), header("part2.txt", 0)],
        [pax("GNU.sparse.map=a,b"), header("part2.txt", 0)],
        [pax("GNU.sparse.major=1", "GNU.sparse.minor=0"), header("part2.txt", 4) + padded(b"9999999999999\n")],
        [header("part2.txt", 3)],
        [header("part2.txt", 3), b"tw"],
        [b"garbage " * 64, FILE],
        [header("h", 3, tarfile.XHDTYPE), padded(b"\xff\xff\xff")],
    ],
)
def test_a_damaged_header_is_told_and_what_follows_is_not_lost_without_a_word(tmp_path, parts):
    with pytest.raises(UsageError, match=r"set\.tar\.gz: expected"):
        read(packed(tmp_path, FILE, *parts, *([] if parts[-1] in (b"tw", header("part2.txt", 3)) else [END])))


def test_a_tar_without_an_end_was_cut_off(tmp_path):
    with pytest.raises(UsageError, match="no header and no end of the archive at byte 1024"):
        read(packed(tmp_path, FILE))


def test_no_bytes_at_all_make_another_error(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(3):
            info = tarfile.TarInfo(f"part{number}.txt")
            info.size, info.pax_headers = 3, {"comment": "x" * 20}
            archive.addfile(info, io.BytesIO(b"abc"))
    whole, random_ = buffer.getvalue()[: 12 * BLOCK], random.Random(0)
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(random_.randint(1, 4)):
            content[random_.randrange(len(content))] = random_.randrange(256)
        path = tmp_path / "set.tar.raw"
        path.write_bytes(content[: random_.choice([len(content), random_.randrange(len(content))])])
        with contextlib.suppress(UsageError):
            read(path)


def test_so_many_files_that_their_names_fill_the_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_MEMBERS", 100)
    assert len(read(packed(tmp_path, *[FILE] * 100, END))) == 100
    with pytest.raises(UsageError, match="expected at most 100 files, got more"):
        read(packed(tmp_path, *[FILE] * 101, END))
