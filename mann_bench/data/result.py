"""What a measurement is: immutable data of schema 1, stored as JSON lines in `RUN/results.jsonl` (`store.py`). It does no formatting.

Numbers that make no sense (a time that is zero, negative or not finite) are refused: no report could conclude anything from them.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from mann_bench.data.case import Case
from mann_bench.data.fields import SHORTEST, Count, Duration, Moment, Real, Text, Whole

SCHEMA = 1
FailedStatus = Literal["oom", "timeout", "error", "skipped", "unavailable", "unverified"]


class Record(BaseModel):
    """Immutable data; unknown fields are an error. JSON has no infinity and no NaN: they are stored as the strings "Infinity" and "NaN"."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="strings")


class StoredRecord(Record):
    """What a run keeps of one case: one JSON line in a file of the run's folder (`mann_bench.data.store`).

    Attributes:
        host: name of the machine in its network.
        conditions: number of the conditions it was measured under (`mann_bench.data.conditions`).
        attempt: which try of its case this is, from 1: its records in the folder, and tries that were lost with their host.
    """

    schema_: int = Field(SCHEMA, alias="schema", le=SCHEMA)
    case_id: Text
    host: Text | None = None
    conditions: int = Field(0, ge=0)
    attempt: Count = 1

    @property
    def run_id(self) -> str:
        """Id of the run that the record belongs to. Several records may share it: a run can go on with larger limits."""
        return self.case_id

    def to_line(self) -> str:
        """The JSON line that is stored, without its newline."""
        return self.model_dump_json(by_alias=True)


class Backend(Record):
    """The kernels, index and device that ran. They may differ from what the case asks for (`kernels="auto"`, a fallback)."""

    kernels: Text
    index: Text
    device_name: Text


class Interval(Record):
    """A median and its 95% confidence interval, in milliseconds."""

    median: Duration
    ci_low: Duration
    ci_high: Duration

    @model_validator(mode="after")
    def _is_ordered(self) -> "Interval":
        if not self.ci_low <= self.median <= self.ci_high:
            raise ValueError(f"expected ci_low <= median <= ci_high, got {self.ci_low}, {self.median}, {self.ci_high}")
        return self


class Samples(Interval):
    """All samples in the order of measurement, in milliseconds, and their summary."""

    min: Duration
    count: Count
    samples: list[Duration] = Field(min_length=1)


class Sensors(Record):
    """One reading of a GPU's sensors; None where the card or driver has none. `slowdowns`: reasons for a reduced clock."""

    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    power_w: float | None = None
    temperature_c: int | None = None
    slowdowns: list[Text] = Field(default_factory=list)
    process_bytes: int | None = None


class Timing(Record):
    """Time of a case.

    Attributes:
        pass_ms: one pass over T steps (in training forward and backward), wall clock.
        step_ms: pass_ms / T.
        device_ms: one pass between CUDA events; None on a CPU.
        first_ms: the first step and the first pass, with all that they build and compile.
        round_counts: number of samples of each round.
        issue_share: median part of a pass until the host had issued all its work (CUDA). Near 1, the host limits the speed, not the GPU.
        cache: "flushed" if the last-level cache was flushed before each pass.
        sensors: readings before the first round and after each round.
    """

    pass_ms: Samples
    step_ms: Interval
    device_ms: Samples | None = None
    warmup_ms: list[Duration]
    stop_reason: Text
    first_ms: Duration | None = None
    round_counts: list[Count] = Field(default_factory=list)
    issue_share: float | None = None
    cache: Literal["warm", "flushed"] = "warm"
    sensors: list[Sensors] = Field(default_factory=list)

    @model_validator(mode="after")
    def _makes_sense(self) -> "Timing":
        shortest_ms = min(self.pass_ms.ci_low, self.step_ms.ci_low, *self.pass_ms.samples)
        if shortest_ms < SHORTEST:
            raise ValueError(f"expected passes that take some time, got {shortest_ms:g} ms")
        if self.round_counts and sum(self.round_counts) != len(self.pass_ms.samples):
            raise ValueError(f"round_counts: expected {len(self.pass_ms.samples)} samples in all, got {sum(self.round_counts)}")
        return self


class Memory(Record):
    """Memory of one pass, in bytes of torch's allocator unless said otherwise.

    Attributes:
        peak_bytes: absolute peak, what was held before the pass included.
        start_bytes: held before the pass.
        tape_bytes: saved for backward at the end of forward.
        bytes_per_step: slope of tape_bytes over T, with its 95% interval from `_low` to `_high`.
        state_bytes: the model's memory and what belongs to it (index, links, usage).
        ledger: bytes by cause (`mann_bench.measure.ledger`) at the time of the peak; they sum to it.
        leaked_bytes: left behind by the pass, but held by no known object.
        rss_peak_bytes: peak of the process's resident memory.
        nvml_peak_bytes: GPU memory of the process as the driver counts it; None if it cannot be read.
    """

    peak_bytes: Whole
    start_bytes: Whole
    tape_bytes: Whole
    bytes_per_step: Real
    bytes_per_step_low: Real | None = None
    bytes_per_step_high: Real | None = None
    state_bytes: Whole
    ledger: dict[str, Whole] = Field(default_factory=dict)
    leaked_bytes: Whole = 0
    rss_peak_bytes: Whole
    nvml_peak_bytes: Whole | None = None


class Check(Record):
    """Outcome of the correctness gate: a model, op or index against its reference at a small size."""

    compared_with: Text
    max_rel_err: float
    ok: bool


class Floor(Record):
    """What a model with a dense memory cannot avoid moving, against what the machine copies (`mann_bench.models.floor`).

    Attributes:
        step_bytes: that a step has to move, if the memory fits no cache.
        matrix_bytes: that a step of one batch element passes over.
        cache_bytes: last-level cache of the processor.
        copy_bytes_per_s: median rate of copies, read and written, timed in turn with the passes on as many threads; None where the
            matrices fit the cache, or there was no room to copy.
    """

    step_bytes: Real
    matrix_bytes: Count
    cache_bytes: Count
    copy_bytes_per_s: Real | None = None

    @property
    def fits_cache(self) -> bool:
        """Whether an element's matrices fit the cache, so that the floor does not hold."""
        return self.matrix_bytes <= self.cache_bytes


class Measured(StoredRecord):
    """A case that was measured.

    `reason`: why other kernels ran than the case asks for, if so. `warnings`: what else to know of it. `comparison`: id of the set of cases
    that were timed in turn with it. `floor`: of a model with a dense memory, on a CPU. `output` is of a
    `NotMeasured` only.
    """

    status: Literal["ok"] = "ok"
    reason: Text | None = None
    case: Case
    backend: Backend = Field(alias="ran")
    time: Timing
    memory: Memory
    check: Check | None = None
    recall: float | None = Field(None, ge=0, le=1)
    floor: Floor | None = None
    warnings: list[Text] = Field(default_factory=list)
    output: None = None
    started_at: Moment
    wall_s: Duration
    comparison: Text | None = None

    @property
    def floor_share(self) -> float | None:
        """The copy rate's part that the floor's bytes reach in the time of a step; None if the floor does not hold, or is not known."""
        if self.floor is None or self.floor.fits_cache or not self.floor.copy_bytes_per_s:
            return None
        return self.floor.step_bytes / (self.time.step_ms.median / 1e3 * self.floor.copy_bytes_per_s)


class NotMeasured(StoredRecord):
    """A case without a time; `reason` says why in a sentence. The rest is what was known when it failed.

    `output`: the end of what its process printed.
    """

    status: FailedStatus
    reason: Text | None = None
    case: Case
    backend: Backend | None = Field(None, alias="ran")
    time: None = None
    memory: Memory | None = None
    check: Check | None = None
    recall: float | None = Field(None, ge=0, le=1)
    floor: None = None
    warnings: list[Text] = Field(default_factory=list)
    output: Text | None = None
    started_at: Moment
    wall_s: Duration
    comparison: Text | None = None


Result = Measured | NotMeasured
_LINE: TypeAdapter[Result] = TypeAdapter(Annotated[Result, Field(discriminator="status")])


def parse_result(fields: Mapping[str, object]) -> Result:
    """The result that a JSON object holds; pydantic's ValidationError, which names the field, if it holds none."""
    return Measured.model_validate(fields) if fields.get("status") == "ok" else NotMeasured.model_validate(fields)


def parse_line(line: bytes) -> Result:
    """The result in a line of JSON; pydantic's ValidationError if it holds none."""
    return _LINE.validate_json(line)


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
