"""TOML files of the package, by name, or of the user, by path: suites and studies."""

import tomllib
from importlib import resources
from pathlib import Path

from mann_bench.data.errors import UsageError, did_you_mean
from mann_bench.data.fields import JsonObject


def shipped_names(folder: str) -> list[str]:
    """Names of the TOML files in a folder of `mann_bench.suites`; "" is that folder itself."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder(folder).iterdir() if entry.name.endswith(".toml"))


def load_text(what: str, name: str, folder: str) -> str:
    """Load the text of a shipped file by name, or of a FILE.toml by path; UsageError, which begins with `what` it is, if there is none."""
    if name.endswith(".toml"):
        return _read(what, Path(name))
    known = shipped_names(folder)
    if name not in known:
        raise UsageError(f"{what}: expected one of {', '.join(known)} or a FILE.toml, got {name!r}{did_you_mean(name, known)}")
    return _folder(folder).joinpath(f"{name}.toml").read_text()


def parse_toml(what: str, text: str, source: str) -> JsonObject:
    """Parse a text; `source` is its name in error messages. UsageError if it is no TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{source}: expected a {what} of tables and lists, got lists nested too deep to be read") from error


def _folder(folder: str) -> resources.abc.Traversable:
    root = resources.files("mann_bench.suites")
    return root.joinpath(folder) if folder else root


def _read(what: str, path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"{what}: expected an existing file, got {str(path)!r}")
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{what}: expected a file that can be read, got {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: expected a text in UTF-8, as TOML is, got other bytes ({error}); save it as UTF-8") from error
