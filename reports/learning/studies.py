"""Studies in folders of training runs: which run is for what, and what was chosen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from mann_bench.data.errors import UsageError, first_error
from mann_bench.data.store import load_run
from mann_bench.learn.record import furthest
from mann_bench.learn.selection import Choice, Configuration, StudyRecord, choose
from mann_bench.learn.under_way import load_stored


class Place(NamedTuple):
    """The configuration that a reported run belongs to."""

    study: str
    name: str
    arm: str
    task_number: int  # a study may have several tasks of one name


@dataclass(frozen=True)
class ChosenStudy:
    """A study, and the choice of each of its configurations; None where a run that chooses is missing."""

    record: StudyRecord
    choices: tuple[Choice | None, ...]

    @property
    def with_grid(self) -> list[tuple[Configuration, Choice | None]]:
        """The configurations that had something to choose from."""
        pairs = zip(self.record.configurations, self.choices, strict=True)
        return [(configuration, choice) for configuration, choice in pairs if len(configuration.candidates) > 1]


def load_study_records(folders: Sequence[Path]) -> list[StudyRecord]:
    """Load what `run.json` of the folders says of studies; UsageError if it is not what `mann-bench learn` writes."""
    return [record for folder in folders if (record := _load(folder)) is not None]


def load_studies(folders: Sequence[Path]) -> list[ChosenStudy]:
    """Load the studies of the folders with what was chosen."""
    studies = []
    for folder in folders:
        if (record := _load(folder)) is not None:
            results = furthest(load_stored(folder))
            studies.append(ChosenStudy(record, tuple(choose(c, record.by, results) for c in record.configurations)))
    return studies


def places_in(studies: Iterable[StudyRecord]) -> dict[str, Place]:
    """The configuration of each run that a study may report, in the order of the study."""
    places: dict[str, Place] = {}
    for study in studies:
        for number, configuration in enumerate(study.configurations):
            place = Place(study.name, configuration.name, configuration.arm, number)
            places |= {run_id: place for candidate in configuration.candidates for run_id in candidate.reported}
    return places


def _load(folder: Path) -> StudyRecord | None:
    run = load_run(folder) if folder.is_dir() else {}
    if "study" not in run:
        return None
    try:
        return StudyRecord.model_validate(run["study"])
    except ValidationError as error:
        raise UsageError(f"{folder / 'run.json'}: study: expected what `mann-bench learn` writes there: {first_error(error)}") from error
