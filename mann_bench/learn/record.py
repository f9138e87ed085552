"""What a training run is and what it leaves: one JSON object a line in `RUN/learning.jsonl`, beside `RUN/run.json`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator

from mann_bench.data.case import full_name, stable_id
from mann_bench.data.result import Backend, Record, StoredRecord
from mann_bench.data.store import RecordKind

LIMITS = ("sequences", "seconds")  # a run can go on beyond these and is the same run

Status = Literal["ok", "budget", "oom", "diverged", "error", "unavailable"]


class LearningCase(Record):
    """Everything that decides a training run, except when it ends by the clock. Letters in brackets are the project's shape letters.

    A batch is of one level, drawn uniformly from `levels`; with `curriculum="exponential"` from levels[0] to h, where h starts at
    `first_level` and doubles, up to levels[1], each time the mean loss of `patience` batches is under `curriculum_threshold`.
    Losses are in bits per bit asked for (per answer, where answers are classes).
    """

    task: str = Field(min_length=1, description="a built-in name, or package.module:factory")
    task_options: dict[str, int] = Field(default_factory=dict, description="arguments of the task, as {'value_bits': 48}")
    data: str | None = Field(None, description="fingerprint of the data that the task draws from; None where it draws bits")
    model: str = Field(min_length=1, description="a built-in name, an entry point, or package.module:factory")
    variant: str = "plain"
    kernels: str = "auto"
    index: str = "exact"
    slots: int = Field(64, ge=1, description="N")
    word_size: int = Field(32, ge=1, description="W")
    heads: int = Field(4, ge=1, description="R")
    reads: int = Field(4, ge=1, description="K")
    hidden: int = Field(100, ge=1, description="H")
    batch: int = Field(8, ge=1, description="B")
    seed: int = Field(0, ge=0)
    optimizer: Literal["rmsprop", "adam"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1, description="of RMSProp; of Adam it is beta_1")
    clip: float = Field(10.0, gt=0, description="largest norm of the whole gradient")
    curriculum: Literal["none", "exponential"] = "none"
    curriculum_threshold: float = Field(0.01, gt=0)
    patience: int = Field(100, ge=1, description="batches whose mean loss is judged, by the curriculum and by `goal`")
    first_level: int = Field(1, ge=1, description="h at the start of a curriculum")
    levels: tuple[int, int] = Field(description="lowest and highest level trained on")
    goal: float = Field(0.02, gt=0, description="mean loss that counts as learned; at levels[1], where there is a curriculum")
    sequences: int | None = Field(None, ge=1, description="training ends after these")
    seconds: float | None = Field(None, gt=0, description="training ends after these seconds of wall time, resumed ones added up")
    stop_at_goal: bool = True
    device: str = "cpu"
    threads: int = Field(1, ge=1)
    memory_bytes: int | None = Field(None, ge=1, description="what the process may allocate beyond what it starts with")

    @model_validator(mode="after")
    def _ends(self) -> "LearningCase":
        low, high = self.levels
        if not 1 <= low <= high:
            raise ValueError(f"levels: expected 1 <= lowest <= highest, got {low} to {high}")
        if self.sequences is None and self.seconds is None:
            raise ValueError("expected a limit of sequences or of seconds, got neither")
        return self

    @property
    def case_id(self) -> str:
        """The same case has the same id on every machine."""
        return stable_id(self)

    @property
    def run_id(self) -> str:
        """The same whatever the limits are: a run that reached one can go on to a larger one."""
        return stable_id(self, without=LIMITS)

    def is_over(self, sequences: int, wall_s: float) -> bool:
        """Whether a limit is reached after so many sequences and seconds of training."""
        return (self.sequences is not None and sequences >= self.sequences) or (self.seconds is not None and wall_s >= self.seconds)

    @property
    def name(self) -> str:
        """The model as it is asked for on the command line: `ntm-checkpointed`."""
        return full_name(self.model, self.variant)

    @property
    def curve(self) -> tuple[str, str, str, str]:
        """What a line in a plot is, its seeds taken together: (model, variant, kernels, index)."""
        return (self.model, self.variant, self.kernels, self.index)


@dataclass(frozen=True, kw_only=True)
class LearningOptions:
    """Fields of a `LearningCase` that the user sets. None: the task's default.

    `learning_rates` are by model, named as on the command line; the rate of "" is for all models without one of their own.
    """

    task_options: dict[str, int] = field(default_factory=dict)
    levels: tuple[int, int] | None = None
    curriculum: str | None = None
    curriculum_threshold: float | None = None
    patience: int | None = None
    first_level: int | None = None
    goal: float | None = None
    stop_at_goal: bool = True
    sequences: int | None = None
    seconds: float | None = None
    slots: int | None = None
    word_size: int | None = None
    heads: int | None = None
    reads: int | None = None
    hidden: int | None = None
    batch: int | None = None
    optimizer: str | None = None
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    momentum: float | None = None
    clip: float | None = None
    kernels: str | None = None
    index: str | None = None
    device: str | None = None
    threads: int = 1
    memory_bytes: int | None = None

    def of_model(self, model: str) -> dict[str, Any]:
        """The fields that are set for a model."""
        fields = {**vars(self), "learning_rate": self.learning_rates.get(model, self.learning_rates.get(""))}
        return {name: value for name, value in fields.items() if value is not None and name != "learning_rates"}


class CurvePoint(Record):
    """Means over the batches since the point before.

    `level`: h, the highest level drawn from; `loss`: bits per bit asked for; `errors`: wrong bits a sequence (`answer="bits"`) or the share
    of wrong answers (`"class"`); `wall_s`: seconds of training until here, without those that a killed process lost.
    """

    sequences: int
    wall_s: float
    level: int
    loss: float
    errors: float


class Evaluation(Record):
    """Error on held-out sequences of one level after training; `group=None` counts all answers, else those of one group.

    `error` and `chance` in the unit of `CurvePoint.errors`; `sequences` is how many were counted. `error=None`: `reason` says why it could
    not be measured, as out of memory.
    """

    level: int
    group: int | None = None
    error: float | None
    chance: float | None = None
    sequences: int
    reason: str | None = None


class LearningResult(StoredRecord):
    """One training run and its outcome.

    `ok`: the goal was reached; `budget`: the limit of sequences or seconds was. `oom`, `diverged` (a loss or a gradient that is no number)
    and `error` keep what was learned until then; `reason` says what happened. `sequences_to_goal`: None where the goal was not reached.
    `level` is the highest h. `peak_bytes`: the process's high-water mark. `level_means`: what one unit of a level is, as "pairs".
    `evaluations` are on the test's sequences; `validation`, on others, is to choose among seeds by: the error of all answers at `level`.
    `evaluation_seconds`: the most that one level was given.
    """

    status: Status
    reason: str | None = None
    case: LearningCase
    backend: Backend | None = Field(None, alias="ran")
    answer: Literal["bits", "class"] | None = None
    level_means: str | None = None
    curve: list[CurvePoint] = Field(default_factory=list)
    evaluations: list[Evaluation] = Field(default_factory=list)
    validation: Evaluation | None = None
    evaluation_seconds: float | None = None
    sequences: int = 0
    sequences_to_goal: int | None = None
    seconds_to_goal: float | None = None
    level: int | None = None
    parameters: int | None = None
    peak_bytes: int | None = None
    resumed: int = Field(0, description="how often it went on from a checkpoint")
    started_at: str
    wall_s: float

    @property
    def run_id(self) -> str:
        """Of the case, whatever its limits."""
        return self.case.run_id

    def fulfils(self, case: LearningCase) -> bool:
        """Whether nothing is left to train for a case of the same run, whose limits may be larger."""
        by_limit = self.status == "budget" or (self.status == "ok" and not self.case.stop_at_goal)
        return not by_limit or case.is_over(self.sequences, self.wall_s)


LEARNING: RecordKind[LearningResult] = RecordKind("learning.jsonl", "learn", LearningResult.model_validate)


def furthest(results: Iterable[LearningResult]) -> dict[str, LearningResult]:
    """The record of each run, by `run_id`, that was trained the longest; of equals the last."""
    found: dict[str, LearningResult] = {}
    for result in results:
        if result.run_id not in found or result.sequences >= found[result.run_id].sequences:
            found[result.run_id] = result
    return found
