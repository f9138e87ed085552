"""Data sets are read packed and unpacked; errors say what is missing or damaged."""

import io
import os
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from mann_bench.data.errors import UsageError
from mann_bench.suites.tasks import files
from mann_bench.suites.tasks.files import fingerprint, members

WANTED = re.compile(r"part\d\.txt$")
ARGUMENTS = (r"set\w*\.(zip|tar\.\w+)", WANTED, "the set")
FILES = {"set/part1.txt": b"one", "set/part2.txt": b"two", "set/notes.md": b"not asked for"}
MEMBERS = [("set/part1.txt", b"one"), ("set/part2.txt", b"two")]


def pack(path):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:" + path.suffix[1:]) as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz", "set.tar.xz", "set.tar.bz2"])
def test_archives_by_name_and_in_a_folder(tmp_path, name):
    archive = pack(tmp_path / name)
    assert list(members(archive, *ARGUMENTS)) == MEMBERS
    assert list(members(tmp_path, *ARGUMENTS)) == MEMBERS
    assert fingerprint(archive, *ARGUMENTS) == fingerprint(tmp_path, *ARGUMENTS)
    assert fingerprint(archive, *ARGUMENTS).startswith(f"{name}, {archive.stat().st_size} bytes, sha256 ")


def test_unpacked_before_packed(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    alone = fingerprint(tmp_path, *ARGUMENTS)
    assert alone.startswith("2 files, 6 bytes, sha256 ")
    assert fingerprint(tmp_path / "set", *ARGUMENTS).startswith("2 files, 6 bytes, sha256 ")
    pack(tmp_path / "set.zip")
    assert list(members(tmp_path, *ARGUMENTS)) == MEMBERS * 2
    assert fingerprint(tmp_path, *ARGUMENTS).startswith(alone + "; set.zip, ")


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"expected a folder or archive with the set, got a path that does not exist"):
        list(members(tmp_path / "nowhere", *ARGUMENTS))
    (tmp_path / "readme").write_text("something else")
    with pytest.raises(UsageError, match=r"expected the set, packed or unpacked, got a folder with readme"):
        list(members(tmp_path, *ARGUMENTS))
    whole = pack(tmp_path / "set.tar.xz").read_bytes()
    (tmp_path / "set.tar.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"set\.tar\.xz: expected a zip or tar archive with the set, got a damaged one"):
        list(members(tmp_path, *ARGUMENTS))
    (tmp_path / "set.tar.xz").unlink()
    (tmp_path / "set.zip").write_bytes(b"no archive")
    with pytest.raises(UsageError, match=r"set\.zip: expected a zip or tar archive"):
        list(members(tmp_path, *ARGUMENTS))


def test_names_in_an_archive_cannot_write_elsewhere(tmp_path):
    (tmp_path / "below").mkdir()
    archive = tmp_path / "below" / "set.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("../../part1.txt", "one")
        packed.writestr("/part2.txt", "two")
    assert list(members(archive, *ARGUMENTS)) == [("../../part1.txt", b"one"), ("/part2.txt", b"two")]
    assert [path.name for path in tmp_path.rglob("*")] == ["below", "set.zip"]


def tar_of(path, *infos):
    with tarfile.open(path, "w:gz") as archive:
        for info in infos:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def member(name, **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["part1.txt", "/etc/passwd", "part2.txt"])
def test_links_in_a_tar_are_refused(tmp_path, kind, target):
    archive = tar_of(tmp_path / "set.tar.gz", member("part1.txt", type=kind, linkname=target))
    with pytest.raises(UsageError, match=f"expected files, got part1.txt, a link to {target}"):
        list(members(archive, *ARGUMENTS))


def test_devices_and_folders_in_a_tar_hold_nothing(tmp_path):
    archive = tar_of(tmp_path / "set.tar.gz", member("part1.txt", type=tarfile.CHRTYPE), member("part2.txt", type=tarfile.DIRTYPE))
    assert list(members(archive, *ARGUMENTS)) == []


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(files, "MOST_FILE_BYTES", 2**20)
    monkeypatch.setattr(files, "MOST_UNPACKED_BYTES", 2**21)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([("part1.txt", 2**20 + 1)], r"expected part1\.txt to unpack to at most 1\.?0* ?MiB"),
        ([(f"part{number}.txt", 2**20) for number in range(3)], "expected the archive to unpack to at most 2 MiB"),
    ],
)
def test_what_unpacks_to_too_much_is_refused(tmp_path, small_limits, sizes, message):
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, size in sizes:
            packed.writestr(name, bytes(size))
    assert (tmp_path / "set.zip").stat().st_size < 5000
    infos = [member(name, size=size) for name, size in sizes]
    for archive in (tmp_path / "set.zip", tar_of(tmp_path / "set.tar.gz", *infos)):
        with pytest.raises(UsageError, match=message):
            list(members(archive, *ARGUMENTS))


def test_unwanted_members_of_a_tar_count_as_they_must_be_read(tmp_path, small_limits):
    archive = tar_of(tmp_path / "set.tar.gz", member("zeros", size=2**22), member("part1.txt", size=1))
    with pytest.raises(UsageError, match="expected the archive to unpack to at most 2 MiB"):
        list(members(archive, *ARGUMENTS))


def test_an_unpacked_file_that_is_too_large_is_refused(tmp_path, small_limits):
    (tmp_path / "part1.txt").write_bytes(bytes(2**20 + 1))
    with pytest.raises(UsageError, match=r"expected part1\.txt to unpack to at most"):
        list(members(tmp_path, *ARGUMENTS))


def test_an_encrypted_zip_is_reported(tmp_path):
    path = pack(tmp_path / "set.zip")
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # of each file, there and in the directory
        at = content.find(signature)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(signature, at + 1)
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"set\.zip: expected files without a password, got an encrypted set/part1\.txt"):
        list(members(path, *ARGUMENTS))


def test_an_unknown_compression_is_damage(tmp_path):
    path = pack(tmp_path / "set.zip")
    path.write_bytes(
        path.read_bytes().replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x63\x00")
    )
    with pytest.raises(UsageError, match=r"set\.zip: expected a zip or tar archive with the set, got a damaged one"):
        list(members(path, *ARGUMENTS))


def test_a_device_or_pipe_is_no_data(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/null"), tmp_path / "pipe"):
        with pytest.raises(UsageError, match="expected a folder or archive with the set, got a device or pipe"):
            list(members(path, *ARGUMENTS))
