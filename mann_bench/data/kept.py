"""Files that take seconds to make, kept in the cache folder of the kernels."""

from collections.abc import Callable
from pathlib import Path

from mann_bench.kernels.native.build import BuildError, cached


def kept_text(name: str, make: Callable[[], str]) -> str:
    """Return the text of that name from the cache; made anew, and kept if there is a folder for it, where the cache has none.

    Args:
        name: of its file. It has to change with all that the text depends on.
    """
    made: list[str] = []

    def write(path: Path) -> None:
        made.append(make())
        path.write_text(made[0], encoding="utf-8")

    try:
        path = cached(name, write)
        return made[0] if made else path.read_text(encoding="utf-8")
    except (BuildError, OSError):  # no folder that only this user can write to: nothing is kept
        return made[0] if made else make()
