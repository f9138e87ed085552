"""Conditions that results were measured under: host, machine, software, code and budget, and what tells one set of them from another.

`run.json` has the conditions of a run's start at its top. A run that goes on under others (`--resume` on another machine, say) adds them to
its list `resumed`. A record's field `conditions` is their number: 0 are those of the start, 1 the first of the list.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from mann_bench.data.fields import Json, JsonObject

MACHINE = ("cpu", "cores", "usable_threads", "cpu_quota", "gpus")  # if these differ, times say nothing about the code
SOFTWARE = (
    *("ram_bytes", "memory_limit_bytes", "huge_pages", "system", "python", "torch", "torch_cuda", "compiler"),
    *("allocator", "allocator_library", "variables", "packages"),
)
CODE = ("kernel_build", "git")


class Gpu(TypedDict):
    """A GPU of the machine."""

    name: str
    uuid: str
    memory_bytes: int | None
    driver: str


class Commit(TypedDict, total=False):
    """The commit of a checkout and whether it has uncommitted changes, or the error that keeps it unknown."""

    commit: str
    dirty: bool
    error: str


class Environment(TypedDict, total=False):
    """The machine and its software (`mann_bench.machine.environment`). A run of an older mann-bench lacks some facts."""

    cpu: str
    cores: int | None
    threads: int | None
    usable_threads: int
    cpu_quota: float | None
    ram_bytes: int
    memory_limit_bytes: int | None
    huge_pages: str | None
    system: str
    python: str
    torch: str
    torch_cuda: str | None
    gpus: list[Gpu]
    compiler: str | None
    kernel_build: str | None
    allocator: dict[str, str]
    allocator_library: str
    variables: dict[str, str]
    packages: dict[str, str]
    git: Commit | None


class Conditions(TypedDict, total=False):
    """One set of conditions; `host` is the machine's name in its network."""

    started_at: str
    host: str
    budget: dict[str, Json]
    environment: Environment


class RunDescription(Conditions, total=False):
    """Content of `run.json`.

    `axes` are the values that each field takes over the cases (`data/axes.py`). `mann-bench run` writes the key `suite_text`;
    `mann-bench learn` writes `task`, `data` and `run_ids`, and for a study `study` (a `StudyRecord`: which run is for what) and
    `study_text`. `shard` is the part of the plan that the folder is for, `merged` the runs that `mann-bench merge` joined.
    """

    schema: int
    suite: str
    suite_text: str
    task: str
    data: str | None
    case_ids: list[str]
    axes: dict[str, list[Json]]
    run_ids: list[str]
    study: JsonObject
    study_text: str
    resumed: list[Conditions]
    shard: dict[str, Json]
    merged: list[dict[str, Json]]


def first_conditions(run: RunDescription) -> Conditions:
    """The conditions of a run's start."""
    first: Conditions = {}
    if "started_at" in run:
        first["started_at"] = run["started_at"]
    if "host" in run:
        first["host"] = run["host"]
    if "budget" in run:
        first["budget"] = run["budget"]
    if "environment" in run:
        first["environment"] = run["environment"]
    return first


def all_conditions(run: RunDescription) -> list[Conditions]:
    """All conditions of a run, in the order of their numbers."""
    return [first_conditions(run), *run.get("resumed", [])]


def conditions_of(run: RunDescription, number: int) -> Conditions:
    """The conditions of a number; empty if `run.json` does not have them."""
    conditions = all_conditions(run)
    return conditions[number] if 0 <= number < len(conditions) else {}


def changes(before: Conditions, after: Conditions) -> list[str]:
    """What differs between two conditions, a phrase each; when they began does not count."""
    nothing: Environment = {}
    old, new = before.get("environment", nothing), after.get("environment", nothing)
    return [*differences(old, new, (*MACHINE, *SOFTWARE, *CODE)), *differences(before, after, ("host", "budget"))]


def differences(before: Mapping[str, object], after: Mapping[str, object], names: Sequence[str]) -> list[str]:
    """Those of the named facts that differ, as `torch: 2.13.0 and 2.14.0`. A fact that one side did not record is no difference."""
    found = []
    for name in names:
        if name not in before or name not in after:
            continue
        old, new = before[name], after[name]
        if isinstance(old, dict) and isinstance(new, dict):
            texts = ((key, _as_text(old.get(key, "none")), _as_text(new.get(key, "none"))) for key in dict.fromkeys([*old, *new]))
            found += [f"{name} {key}: {a} and {b}" for key, a, b in texts if a != b]
        elif _as_text(old) != _as_text(new):
            found.append(f"{name}: {_as_text(old)} and {_as_text(new)}")
    return found


def _as_text(value: object) -> str:
    if isinstance(value, list):  # GPUs: only their names
        return ", ".join(str(part.get("name", part)) if isinstance(part, dict) else str(part) for part in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items()) or "none"
    return "unknown" if value is None else str(value)
