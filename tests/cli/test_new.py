"""`mann-bench new`: files that load, are checked by editors, and never replace others."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from mann_bench.data.suite import load_suite
from mann_bench.learn.study import load_study


@pytest.mark.parametrize(("arguments", "kind"), [([], "suite"), (["--study"], "study")])
def test_writes_a_start_that_loads(call, tmp_path, monkeypatch, arguments, kind):
    monkeypatch.chdir(tmp_path)
    done = call("new", "first try.toml", *arguments)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "first try.toml"
    assert done.stdout.endswith(f"next:    mann-bench {'learn' if arguments else 'plan'} 'first try.toml'\n")
    schema = path.read_text().splitlines()[0].removeprefix("#:schema ")
    assert Path(unquote(urlsplit(schema).path)).name == f"{kind}.json"
    assert Path(unquote(urlsplit(schema).path)).is_file()
    load = load_study if arguments else load_suite
    assert load(str(path)).name == "first-try"
    assert max(map(len, path.read_text().splitlines()[1:])) <= 140
    path.write_text("mine")
    again = call("new", path, *arguments)
    assert again.returncode == 2
    assert again.stderr == f"error: new: expected a file that does not exist yet, got {str(path)!r}; name another, or remove it\n"
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine", "expected a FILE.toml, got 'mine'; write 'mine.toml'"),
        ("no/folder.toml", "no/folder.toml: No such file"),
        ("a\nb.toml", "can be printed"),
    ],
)
def test_refuses(call, tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    done = call("new", name)
    assert done.returncode == 2
    assert message in done.stderr
    assert not any(tmp_path.iterdir())


def test_a_name_of_the_package_is_not_taken(call, tmp_path):
    assert call("new", tmp_path / "quick.toml").returncode == 0
    assert load_suite(str(tmp_path / "quick.toml")).name == "my-quick"
    assert call("plan", tmp_path / "quick.toml").returncode == 0


def test_a_path_with_the_words_of_the_text(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("new", "NAME of FILE.toml").returncode == 0
    assert "mann-bench plan 'NAME of FILE.toml' " in Path("NAME of FILE.toml").read_text()
