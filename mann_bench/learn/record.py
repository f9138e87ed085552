"""Data of training runs: the case, and the result that is stored as one JSON line in `RUN/learning.jsonl`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, FiniteFloat, model_validator

from mann_bench.data.case import Batch, Fill, Heads, Hidden, Reads, Slots, WordSize, full_name, stable_id
from mann_bench.data.fields import WORD, Count, Duration, Moment, Real, Text, Whole
from mann_bench.data.lines import RecordKind
from mann_bench.data.option_axes import NO_OPTIONS, OptionAxes
from mann_bench.data.options import Options
from mann_bench.data.result import Backend, Record, StoredRecord

LIMITS = ("sequences", "seconds")  # not part of a run's identity: a run can go on with larger ones
ADDED = ("options", "fill", "test_index")  # later than the first stored runs: at its default, such a field is no part of an id

Status = Literal["ok", "budget", "oom", "diverged", "error", "unavailable"]
Settings = dict[str, Any]  # fields of a `LearningCase` or of `LearningOptions`, by name


class LearningCase(Record):
    """All that determines a training run, and its limits.

    A batch has one level, drawn uniformly from `levels`. With `curriculum="exponential"` it is drawn from levels[0] to h; h starts at
    `first_level` and doubles, up to levels[1], each time the mean loss of `patience` batches is under `curriculum_threshold`.
    Losses are in bits per bit due (per answer, where answers are classes).
    """

    task: Text = Field(min_length=1, description="a built-in name, or package.module:factory")
    task_options: dict[Text, Whole] = Field(default_factory=dict, description="arguments of the task, as { value_bits = 48 }")
    data: Text | None = Field(None, description="fingerprint of the task's data; None where its sequences are random bits")
    model: Text = Field(min_length=1, description="a built-in name, an entry point, or package.module:factory")
    variant: Text = "plain"
    options: Options = Field(  # stored as it was first called
        default_factory=Options, alias="model_options", description="arguments of the model's constructor, by name"
    )
    kernels: Text = Field("auto", description="native, torch, or auto: native where the model chooses so")
    index: Text = Field("exact", description="how a sparse model finds rows: a name of `mann-bench list indexes`, or package.module:Class")
    test_index: Text | None = Field(None, description="how it finds rows after training, where errors are measured; default as in training")
    fill: Fill = Field("empty", description="what the memory holds before a sequence: zeros, or random rows, all of them candidates")
    slots: Slots = 64
    word_size: WordSize = 32
    heads: Heads = 4
    reads: Reads = 4
    hidden: Hidden = 100
    batch: Batch = 8
    seed: int = Field(0, ge=0, lt=WORD)
    optimizer: Literal["rmsprop", "adam"] = Field("adam", description="rmsprop is that of Graves 2013: centred, with momentum")
    learning_rate: FiniteFloat = Field(1e-3, gt=0, description="of the optimizer")
    momentum: float = Field(0.9, ge=0, lt=1, description="of RMSProp; of Adam it is beta_1")
    clip: FiniteFloat = Field(10.0, gt=0, description="largest norm of the gradient of all parameters")
    curriculum: Literal["none", "exponential"] = Field("none", description="exponential: levels are drawn up to h, which doubles")
    curriculum_threshold: FiniteFloat = Field(0.01, gt=0, description="mean loss under which h doubles")
    patience: Count = Field(100, description="batches whose mean loss the curriculum and `goal` use")
    first_level: Count = Field(1, description="h at the start of a curriculum")
    levels: tuple[Count, Count] = Field(description="lowest and highest level trained on")
    goal: FiniteFloat = Field(0.02, gt=0, description="mean loss that counts as learned; with a curriculum, at h = levels[1]")
    sequences: Count | None = Field(None, description="limit of sequences trained on")
    seconds: FiniteFloat | None = Field(None, gt=0, description="limit of training time, summed over resumed parts")
    stop_at_goal: bool = Field(True, description="whether a run ends at its goal")
    device: Text = "cpu"
    threads: Count = 1
    memory_bytes: Count | None = Field(None, description="limit of what the process allocates after its start")

    @model_validator(mode="after")
    def _ends(self) -> "LearningCase":
        low, high = self.levels
        if low > high:
            raise ValueError(f"levels: expected 1 <= lowest <= highest, got {low} to {high}")
        if self.sequences is None and self.seconds is None:
            raise ValueError("expected a limit of sequences or of seconds, got neither")
        return self

    @property
    def case_id(self) -> str:
        """Id of the case, the same on every machine."""
        return stable_id(self, without=self._unused())

    @property
    def run_id(self) -> str:
        """Id of the run, the same for all limits: a run that reached one can go on with a larger one."""
        return stable_id(self, without=(*LIMITS, *self._unused()))

    def _unused(self) -> list[str]:
        return [name for name in ADDED if not getattr(self, name) or getattr(self, name) == "empty"]

    def is_over(self, sequences: int, wall_s: float) -> bool:
        """Whether a limit is reached after this much training."""
        return (self.sequences is not None and sequences >= self.sequences) or (self.seconds is not None and wall_s >= self.seconds)

    @property
    def name(self) -> str:
        """Model and variant as on the command line: `ntm-checkpointed`."""
        return full_name(self.model, self.variant)

    @property
    def title(self) -> str:
        """Model, variant and options: `sam erase=gated`."""
        return f"{self.name} {self.options}".rstrip()

    @property
    def curve(self) -> tuple[str, str, str, str]:
        """The line of a plot that the run is part of, with its other seeds: (model, variant, kernels, index)."""
        return (self.model, self.variant, self.kernels, self.index)


@dataclass(frozen=True, kw_only=True)
class LearningOptions:
    """Fields of a `LearningCase` that the user sets. None: the task's default.

    `learning_rates` are by model, named as on the command line; the rate of "" is for all models without one of their own.
    """

    task_options: dict[str, int] = field(default_factory=dict)
    options: OptionAxes = NO_OPTIONS
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

    def of_model(self, model: str) -> list[Settings]:
        """The fields that are set for a model, one set for each combination of its options."""
        fields = {**vars(self), "learning_rate": self.learning_rates.get(model, self.learning_rates.get(""))}
        settings = {name: value for name, value in fields.items() if value is not None and name != "learning_rates"}
        return [{**settings, "options": point} for point in self.options.points(model)]


class CurvePoint(Record):
    """Means over the batches since the previous point."""

    sequences: Count  # trained on until here
    wall_s: Duration  # seconds of training until here, without those that a killed process lost
    level: Count  # h, the highest level drawn
    loss: Real  # bits per bit due
    errors: Real  # wrong bits a sequence (`answer="bits"`), or the share of wrong answers (`"class"`)


class Evaluation(Record):
    """Error on held-out sequences of one level after training. `error` and `chance` have the unit of `CurvePoint.errors`."""

    level: Count
    group: Whole | None = None  # None: all answers
    error: Real | None  # None: could not be measured, for the `reason` given
    chance: float | None = None
    sequences: Whole  # evaluated
    rows_written: Count | None = None  # in a sequence of the level; None: as in `LearningResult`, or of a record without it
    reason: Text | None = None


class LearningResult(StoredRecord):
    """One training run and its outcome.

    `status` is `ok` where the goal was reached, `budget` where a limit was reached first. Results with `oom`, `diverged` (a loss or
    gradient is infinite or NaN) and `error` keep the curve until then.
    """

    status: Status
    reason: Text | None = None
    case: LearningCase
    backend: Backend | None = Field(None, alias="ran")
    answer: Literal["bits", "class"] | None = None
    level_means: Text | None = None  # unit of the level, as "pairs"
    curve: list[CurvePoint] = Field(default_factory=list)
    evaluations: list[Evaluation] = Field(default_factory=list)  # on test sequences
    validation: Evaluation | None = None  # on other sequences, all answers at `level`: for the choice of a run among seeds
    evaluation_seconds: float | None = None  # time limit of each evaluated level
    sequences: int = Field(0, ge=0, lt=WORD)
    sequences_to_goal: Count | None = None  # None: the goal was not reached
    seconds_to_goal: Duration | None = None
    level: Count | None = None  # the highest h
    rows_written: Count | None = None  # in a sequence of that level; None: the model's writes have no row of their own, or are unknown
    parameters: Whole | None = None
    peak_bytes: Whole | None = None  # peak resident memory of the process; on a GPU, peak bytes allocated there
    resumed: Whole = Field(0, description="how often the run resumed from a checkpoint")
    output: Text | None = None  # the end of what the process of a failed run printed
    started_at: Moment
    wall_s: Duration

    @property
    def run_id(self) -> str:
        """Id of the case's run, the same for all limits."""
        return self.case.run_id

    @property
    def overwrites_itself(self) -> bool:
        """Whether the longest sequences write more rows than the memory has."""
        return self.rows_written is not None and self.rows_written > self.case.slots

    def fulfils(self, case: LearningCase) -> bool:
        """Whether a case of the same run, whose limits may be larger, has nothing left to train."""
        ended_by_limit = self.status == "budget" or (self.status == "ok" and not self.case.stop_at_goal)
        return not ended_by_limit or case.is_over(self.sequences, self.wall_s)


LEARNING: RecordKind[LearningResult] = RecordKind(
    "learning.jsonl", "learn", LearningResult.model_validate_json, LearningResult.model_validate
)


def furthest(results: Iterable[LearningResult]) -> dict[str, LearningResult]:
    """The result of each run, by `run_id`, that was trained on the most sequences; the last of equals."""
    longest: dict[str, LearningResult] = {}
    for result in results:
        if result.run_id not in longest or result.sequences >= longest[result.run_id].sequences:
            longest[result.run_id] = result
    return longest
