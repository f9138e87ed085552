"""What a measurement is: immutable data, schema 1, one JSON object a line in `RUN/results.jsonl`. Formatting lives elsewhere."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mann_bench.case import Case

SCHEMA = 1
Status = Literal["ok", "oom", "timeout", "error", "skipped", "unavailable", "unverified"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ran(_Record):
    """What really ran, which may differ from what was asked (`kernels="auto"`, a fallback)."""

    kernels: str
    index: str
    device_name: str


class Interval(_Record):
    """A median and its 95% confidence interval, in milliseconds."""

    median: float
    ci_low: float
    ci_high: float


class Samples(Interval):
    """Every sample in the order it was taken, in milliseconds, and its summary."""

    min: float
    count: int
    samples: list[float]


class Timing(_Record):
    """`pass_ms`: one call over T steps (train: forward and backward); `step_ms` = pass_ms / T; `device_ms`: CUDA events, else None."""

    pass_ms: Samples
    step_ms: Interval
    device_ms: Samples | None = None
    warmup_ms: list[float]
    stop_reason: str


class Memory(_Record):
    """Allocator bytes of one pass. `peak_bytes` counts from the start of the process, `start_bytes` is what was held before the pass,
    `tape_bytes` what forward leaves for backward, `bytes_per_step` its slope over T, `state_bytes` the memory and all that goes with it.
    """

    peak_bytes: int
    start_bytes: int
    tape_bytes: int
    bytes_per_step: float
    state_bytes: int
    ledger: dict[str, int] = Field(default_factory=dict)
    rss_peak_bytes: int
    nvml_peak_bytes: int | None = None


class Check(_Record):
    """The correctness gate: the same model, op or index at a small N against its reference."""

    compared_with: str
    max_rel_err: float
    ok: bool


class Result(_Record):
    """One case and its outcome; `reason` says in a sentence why a status is not `ok`, or why not the kernels asked for ran."""

    schema_: int = Field(SCHEMA, alias="schema")
    case_id: str
    status: Status
    reason: str | None = None
    case: Case
    ran: Ran | None = None
    time: Timing | None = None
    memory: Memory | None = None
    check: Check | None = None
    recall: float | None = None
    started_at: str
    wall_s: float

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def to_line(self) -> str:
        """The JSON line that is stored, without its newline."""
        return self.model_dump_json(by_alias=True)
