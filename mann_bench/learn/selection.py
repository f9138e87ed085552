"""The choice of a study: which point of the grid each model is reported with, from the runs of seeds that are not reported.

`by = "goal"`: the most seeds at the goal, then the fewest sequences of those (their mean). Runs end at the goal.
`by = "validation"`: the smallest validation error (the median of the seeds). Runs train to their limit, so that all have had as much.
Where that is equal: the other of the two, then the first in the grid. With a curriculum the higher level comes before the validation error.
The same stored runs always give the same choice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, median
from typing import Literal

from mann_bench.data.options import Options
from mann_bench.data.result import Record
from mann_bench.learn.record import LearningResult, Settings

By = Literal["validation", "goal"]
TRAINED = ("ok", "budget")


class Candidate(Record):
    """A point of the grid, and the ids of its runs: those that choose and those that are made if it is chosen."""

    values: Settings
    selection: tuple[str, ...]
    reported: tuple[str, ...]

    @property
    def text(self) -> str:
        """The point as text: `learning_rate 0.003`, `erase=gated`."""
        return ", ".join(_text(name, value) for name, value in self.values.items())


def _text(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        return str(Options(value))
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


class Configuration(Record):
    """A model on a task in an arm, and what it chooses from. `settings`: fields of the case of its first candidate."""

    task: str
    arm: str
    model: str
    settings: Settings
    candidates: tuple[Candidate, ...]

    @property
    def name(self) -> str:
        """Model and arm: `sam K 8`."""
        return f"{self.model} {self.arm}".rstrip()

    @property
    def selection_ids(self) -> list[str]:
        """Ids of the runs that choose."""
        return [run_id for candidate in self.candidates for run_id in candidate.selection]


class StudyRecord(Record):
    """What `run.json` holds of a study besides its text: which run is for what."""

    name: str
    description: str = ""
    by: By
    configurations: tuple[Configuration, ...]


@dataclass(frozen=True)
class Ranked:
    """A candidate with the outcome of its selection runs.

    Attributes:
        reached: how many reached the goal.
        sequences: mean sequences of those; None if none did.
        validation: median validation error; None if none was measured.
        level: median of the highest levels.
        trained: how many trained to the end.
    """

    candidate: Candidate
    runs: tuple[LearningResult, ...]
    reached: int
    sequences: float | None
    validation: float | None
    level: float
    trained: int

    def key(self, by: By) -> tuple[float, ...]:
        """Sorts the better first."""
        infinite = float("inf")
        goal = (-self.reached, infinite if self.sequences is None else self.sequences)
        error = (-self.level, infinite if self.validation is None else self.validation)
        return (-float(self.trained == len(self.runs)), *((*goal, *error) if by == "goal" else (*error, *goal)))


@dataclass(frozen=True)
class Choice:
    """The candidates of a configuration, the best first; `failed`: no run of any of them trained."""

    configuration: Configuration
    ranking: tuple[Ranked, ...]

    @property
    def best(self) -> Ranked:
        return self.ranking[0]

    @property
    def failed(self) -> bool:
        return bool(self.best.runs) and not any(ranked.trained for ranked in self.ranking)


def choose(configuration: Configuration, by: By, results: Mapping[str, LearningResult]) -> Choice | None:
    """Rank the candidates of a configuration; None while a run that chooses is missing among the results."""
    if not all(run_id in results for run_id in configuration.selection_ids):
        return None
    ranked = [_outcome(candidate, [results[run_id] for run_id in candidate.selection]) for candidate in configuration.candidates]
    return Choice(configuration, tuple(sorted(ranked, key=lambda outcome: outcome.key(by))))  # stable: of equals the first in the grid


def _outcome(candidate: Candidate, runs: list[LearningResult]) -> Ranked:
    trained = [run for run in runs if run.status in TRAINED]
    needs = [run.sequences_to_goal for run in trained if run.sequences_to_goal is not None]
    errors = [run.validation.error for run in trained if run.validation is not None and run.validation.error is not None]
    return Ranked(
        candidate=candidate,
        runs=tuple(runs),
        reached=len(needs),
        sequences=mean(needs) if needs else None,
        validation=median(errors) if errors else None,
        level=median([run.level or 0 for run in trained]) if trained else 0,
        trained=len(trained),
    )
