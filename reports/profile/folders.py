"""Which folders hold profiles. Says so without what reads a profile, which imports torch."""

from pathlib import Path

FILE = "profile.json"


def folders_of(run: Path) -> list[Path]:
    """The folders of profiles in a folder of `mann-bench profile`: itself, or one for each of several models; [] if it has none."""
    if (run / FILE).is_file():
        return [run]
    return sorted(path.parent for path in run.glob(f"*/{FILE}"))
