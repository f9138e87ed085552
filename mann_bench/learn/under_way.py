"""Runs of a folder that are not finished: what their last checkpoints say."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mann_bench.data.store import load_records
from mann_bench.data.units import format_slots
from mann_bench.learn.record import LEARNING, CurvePoint, LearningCase, LearningResult


class UnderWay(NamedTuple):
    """A run as its last checkpoint has it; `written_at` is the time of that file, in seconds since 1970."""

    case: LearningCase
    curve: list[CurvePoint]
    sequences: int
    wall_s: float
    level: int
    written_at: float

    @property
    def name(self) -> str:
        """`sam N 64k, seed 0`."""
        return f"{self.case.title} N {format_slots(self.case.slots)}, seed {self.case.seed}"

    @property
    def share(self) -> float:
        """How much of its limit it has had, from 0 to 1."""
        return max(self.sequences / (self.case.sequences or float("inf")), self.wall_s / (self.case.seconds or float("inf")))


def load_stored(folder: Path) -> list[LearningResult]:
    """Load the finished runs of a folder; none where the first are still under way. UsageError as `load_records`."""
    file = folder / LEARNING.file
    if file.is_file() and not file.stat().st_size and any(folder.glob("checkpoints/*.pt")):
        return []
    return load_records(folder, LEARNING)


def runs_under_way(folder: Path, finished: Mapping[str, LearningResult]) -> tuple[list[UnderWay], list[str]]:
    """Read the checkpoints of runs that have trained further than what is stored of them.

    Args:
        finished: the stored runs, by run id.

    Returns:
        The runs, and the names of the files that cannot be read (half written, or by a version that did not store the case).
    """
    found, unreadable = [], []
    for path in sorted((folder / "checkpoints").glob("*.pt")):
        stored = finished.get(path.stem)
        if stored is not None and stored.status not in ("ok", "budget"):
            continue
        run = _read(path)
        if run is not None and (stored is None or run.sequences > stored.sequences):
            found.append(run)
        elif run is None and stored is None:
            unreadable.append(path.name)
    return found, unreadable


def _read(path: Path) -> UnderWay | None:
    """What a checkpoint says of its run; None if it cannot be read, as one that is removed meanwhile."""
    import torch  # takes seconds, which a report of finished runs does not need

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        case = LearningCase.model_validate(checkpoint["case"])
        curve = [CurvePoint.model_validate(point) for point in checkpoint["curve"]]
        level = int(checkpoint["curriculum"]["level"])
        sequences, wall_s = int(checkpoint["step"]) * case.batch, float(checkpoint["wall_s"])
        return UnderWay(case, curve, sequences, wall_s, level, path.stat().st_mtime)
    except Exception:  # torch.load has many types for a damaged file
        return None
