"""Texts in the cache: made once, and made again where none can be kept or another user could have changed it."""

from mann_bench.data.kept import kept_text


def test_a_text_is_made_once_and_again_where_it_cannot_be_trusted(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("MANN_BENCH_CACHE", str(folder))
    made = []

    def make():
        made.append("text")
        return "text"

    assert [kept_text("a.js", make) for _ in range(3)] == ["text"] * 3
    assert len(made) == 1
    (folder / "a.js").chmod(0o666)
    assert kept_text("a.js", make) == "text"
    assert len(made) == 2
    folder.chmod(0o777)
    assert [kept_text("a.js", make) for _ in range(2)] == ["text"] * 2
    assert len(made) == 4


def test_a_text_is_made_where_there_is_no_folder_to_keep_it(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MANN_BENCH_CACHE", str(tmp_path / "file" / "cache"))
    assert kept_text("a.js", lambda: "text") == "text"
