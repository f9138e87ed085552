"""Data sets are read packed and unpacked; errors say what is missing or damaged."""

import io
import re
import tarfile
import zipfile

import pytest

from mann_bench.data.errors import UsageError
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
