"""Files that are written whole or not at all."""

import os

from mann_bench.data.files import write_atomically


def test_two_writers_do_not_mix(tmp_path, monkeypatch):
    """Each writer has a temporary file of its own, so the file holds the whole content of one of them."""
    path, sync = tmp_path / "file", os.fsync
    written = []

    def second_writer(descriptor):
        monkeypatch.setattr(os, "fsync", sync)
        write_atomically(path, "second")
        written.append(path.read_text())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", second_writer)
    write_atomically(path, "first one")
    assert [*written, path.read_text()] == ["second", "first one"]
    assert list(tmp_path.iterdir()) == [path]
