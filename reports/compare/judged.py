"""What a comparison keeps of a result: a run may have 100,000 of them."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from mann_bench.data.case import Case, stable_id
from mann_bench.data.result import Backend, Result
from mann_bench.measure.samples import split_rounds

BYTES = ("peak_bytes", "tape_bytes", "state_bytes", "bytes_per_step")


@dataclass(frozen=True, slots=True)
class JudgedResult:
    """Fields of a `Result`. `samples_ms`: its passes in order; None if it was not measured. `sizes`: its memory, by BYTES."""

    case_id: str
    status: str
    reason: str | None
    host: str | None
    conditions: int
    comparison: str | None
    started_at: str
    backend: Backend | None
    recall: float | None
    sizes: tuple[float, ...] | None
    samples_ms: "array[float] | None"
    round_counts: tuple[int, ...]

    @property
    def rounds_ms(self) -> list[list[float]]:
        """The samples of each round."""
        return split_rounds(self.samples_ms or (), self.round_counts)


def judged(result: Result) -> JudgedResult:
    """Keep what is judged of a result."""
    time, memory = result.time, result.memory
    return JudgedResult(
        case_id=result.case_id,
        status=result.status,
        reason=result.reason,
        host=result.host,
        conditions=result.conditions,
        comparison=result.comparison,
        started_at=result.started_at,
        backend=result.backend,
        recall=result.recall,
        sizes=tuple(getattr(memory, name) for name in BYTES) if memory else None,
        samples_ms=array("d", time.pass_ms.samples) if time else None,
        round_counts=tuple(time.round_counts) if time else (),
    )


@dataclass(frozen=True)
class Group:
    """A case and its results, one for each process that ran it."""

    case: Case
    results: list[JudgedResult] = field(default_factory=list)


def by_case(results: Iterable[Result]) -> dict[str, Group]:
    """Group results by case: all its fields but the suite's name, as ids may have been computed by older code."""
    groups: dict[str, Group] = {}
    for result in results:
        key = stable_id(result.case, without=("suite",))
        groups.setdefault(key, Group(result.case)).results.append(judged(result))
    return groups


def by_case_of_one_model(groups: dict[str, Group]) -> dict[str, Group]:
    """The groups of a side by all fields but the model, so that they meet those of another model; none if the side has several models."""
    if len({group.case.name for group in groups.values()}) > 1:
        return {}
    return {stable_id(group.case, without=("suite", "model", "variant")): group for group in groups.values()}
