"""Join the folders of shards, or of parts of one run that were made apart, into one folder: whole, or not at all.

Each record keeps its host and its attempt, and the number of its conditions is one of the joined folder's. Reports compare only what was
measured under the same conditions, of which the host is one.
"""

import json
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from mann_bench.data.conditions import Conditions, Environment, RunDescription, all_conditions, changes, conditions_of, differences
from mann_bench.data.errors import UsageError
from mann_bench.data.fields import Json
from mann_bench.data.files import open_locked, sync_folder, write_atomically
from mann_bench.data.lines import LineReader, RecordKind, RecordT
from mann_bench.data.plans import other_plan, same_plan, shard_in_words
from mann_bench.data.store import load_run

DECISIVE = ("torch", "torch_cuda", "kernel_build", "git")  # what is measured: records that differ in these are of other programs
CHECKPOINTS = "checkpoints"  # of training runs that are not finished, or may go on with larger limits


@dataclass(frozen=True)
class Part(Generic[RecordT]):
    """A folder that is joined."""

    path: Path
    description: RunDescription
    records: list[RecordT]

    def conditions(self, record: RecordT) -> Conditions:
        """The conditions of a record, its host among them. An older `run.json` names no host."""
        found: Conditions = {**conditions_of(self.description, record.conditions)}
        if "host" not in found and record.host is not None:
            found["host"] = record.host
        return found


@dataclass(frozen=True)
class Merged(Generic[RecordT]):
    """What was joined. `missing_shards`: numbers of those that are not among the parts; `hosts`: where records come from."""

    path: Path
    description: RunDescription
    records: list[RecordT]
    missing_shards: list[int]
    hosts: list[str]
    differing: list[str]


def merge(folders: Sequence[Path], kind: RecordKind[RecordT], out: Path, *, allow_different: bool = False) -> Merged[RecordT]:
    """Join run folders into a new one, which appears whole.

    Args:
        allow_different: also join records of different programs or budgets (`DECISIVE`).

    Raises:
        UsageError: the folders are of different plans, overlap, differ in what is measured, or one is being written; or `out` holds files.
        OSError: `out` cannot be written; nothing is left of it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: expected a new or empty folder, got one with files; name another")
    parts = [_load(folder, kind) for folder in folders]
    for number, part in enumerate(parts):
        for other in parts[:number]:
            if part.path.samefile(other.path):
                raise UsageError(f"merge: expected each folder once, got {part.path} twice; leave the second out")
            _check_pair(other, part)
    missing_shards = _check_shards(parts)
    _check_records(parts)
    differing = _differing(parts)
    if differing and not allow_different:
        raise UsageError(
            f"merge: expected parts that measured the same program, got {'; '.join(differing)}; "
            "measure one of them again with the other's program, or add --allow-different to join them all the same"
        )
    description, records = _joined(parts)
    _write(out, kind, description, records, [part.path / CHECKPOINTS for part in parts])
    hosts = list(dict.fromkeys(record.host for record in records if record.host))
    return Merged(out, description, records, missing_shards, hosts, differing)


def _load(folder: Path, kind: RecordKind[RecordT]) -> Part[RecordT]:
    """Load a part; UsageError if it is none, or if a run is writing there."""
    description = load_run(folder) if folder.is_dir() else {}
    path = folder / kind.file
    if not description or not path.is_file():
        raise UsageError(f"{folder}: expected a run folder with run.json and {kind.file}, got none; `mann-bench {kind.command}` writes one")
    try:
        os.close(open_locked(path))
    except BlockingIOError as error:
        raise UsageError(f"{folder}: a mann-bench is writing there; wait until it ends, or stop it, and merge then") from error
    except PermissionError:
        pass  # a folder of somebody else's that can only be read
    lines = LineReader(path, kind)
    records = list(lines)
    lines.warn()
    return Part(folder, description, records)


def _check_pair(one: Part[RecordT], other: Part[RecordT]) -> None:
    """Raise UsageError unless two parts plan the same whole."""
    first: RunDescription = {**one.description}
    second: RunDescription = {**other.description}
    for plan in (first, second):
        plan.pop("shard", None)
    same_study = first.get("study", {}).get("configurations") == second.get("study", {}).get("configurations")
    if not same_plan(first, second) or not same_study:
        how = other_plan(first, second, "the other") if same_study else "their studies differ"
        raise UsageError(f"merge: expected parts of one run, got {one.path} and {other.path}: {how}; merge what has one suite and options")


def _check_shards(parts: Sequence[Part[RecordT]]) -> list[int]:
    """Numbers of the shards that are missing, if the parts are shards; UsageError for one twice or of another division."""
    seen: dict[int, Part[RecordT]] = {}
    count: int | None = None
    for part in parts:
        shard = part.description.get("shard")
        if not shard:
            continue
        number, of = int(str(shard["number"])), int(str(shard["count"]))
        if number in seen:
            both = f"{seen[number].path} and {part.path}"
            what = (
                "that shard twice" if of == count else f"{shard_in_words(seen[number].description)} and {shard_in_words(part.description)}"
            )
            raise UsageError(f"merge: expected each shard of one division once, got {what}: {both}; leave one of them out")
        if count not in (None, of):
            raise UsageError(f"merge: expected shards of one division, got shards of {count} and of {of} ({part.path}); merge those of one")
        seen[number], count = part, of
    complete = any("shard" not in part.description for part in parts)  # joined before: it may hold any of them
    return [] if count is None or complete else [number for number in range(1, count + 1) if number not in seen]


def _check_records(parts: Sequence[Part[RecordT]]) -> None:
    """Raise UsageError if two parts have a record of the same case, or of the same training run."""
    owner: dict[str, Part[RecordT]] = {}
    for part in parts:
        for record in part.records:
            other = owner.setdefault(record.run_id, part)
            if other is not part:
                raise UsageError(
                    f"merge: expected each case in one part, got {record.run_id} in {other.path} and {part.path}; leave one out"
                )


def _differing(parts: Sequence[Part[RecordT]]) -> list[str]:
    """How what the parts measured differs, a phrase each; none of them if it does not."""
    nothing: Environment = {}
    used = [(part, conditions) for part in parts for conditions in _used(part)]
    found: dict[str, str] = {}  # by what differs: the first two parts that do
    for part, conditions in used[1:]:
        first_part, first = used[0]
        old, new = first.get("environment", nothing), conditions.get("environment", nothing)
        decisive = [*differences(old, new, DECISIVE), *differences(first, conditions, ("budget",))]
        why = " (their processors differ, for which kernels are compiled)" if old.get("cpu") != new.get("cpu") else ""
        for phrase in decisive:
            found.setdefault(phrase, f"{phrase}{why if phrase.startswith('kernel_build') else ''} in {first_part.path} and {part.path}")
    return list(found.values())


def _used(part: Part[RecordT]) -> list[Conditions]:
    """The conditions that a part has records of; those of its start if it has none."""
    used = {(record.conditions, record.host): part.conditions(record) for record in part.records}
    return list(used.values()) or all_conditions(part.description)[:1]


def _joined(parts: Sequence[Part[RecordT]]) -> tuple[RunDescription, list[RecordT]]:
    """The content of `run.json` and the records, in the order of the plan, with the numbers of their conditions in it."""
    known: list[Conditions] = []
    records: list[RecordT] = []
    for part in parts:
        numbers: dict[tuple[int, str | None], int] = {}
        for record in part.records:
            key = record.conditions, record.host
            if key not in numbers:
                numbers[key] = _number(part.conditions(record), known)
            records.append(record.model_copy(update={"conditions": numbers[key]}))
    first = parts[0].description
    order = {name: place for place, name in enumerate([*first.get("case_ids", []), *first.get("run_ids", [])])}
    records.sort(key=lambda record: order.get(record.case_id, order.get(record.run_id, len(order))))
    known = known or all_conditions(first)[:1]
    description: RunDescription = {**first, **known[0], "merged": [_summary(part) for part in parts]}
    description.pop("shard", None)
    description.pop("resumed", None)
    if len(known) > 1:
        description["resumed"] = known[1:]
    return description, records


def _number(conditions: Conditions, known: list[Conditions]) -> int:
    """The number of conditions among those that are known, to which they are added if they are new."""
    for number, other in enumerate(known):
        if conditions.get("host") == other.get("host") and not changes(other, conditions):
            return number
    known.append(conditions)
    return len(known) - 1


def _summary(part: Part[RecordT]) -> dict[str, Json]:
    """What the joined `run.json` keeps of a part besides its conditions."""
    description = part.description
    return {
        "folder": part.path.resolve().name,
        "shard": description.get("shard"),
        "started_at": description.get("started_at"),
        "records": len(part.records),
    }


def _write(
    out: Path, kind: RecordKind[RecordT], description: RunDescription, records: Sequence[RecordT], checkpoints: Sequence[Path]
) -> None:
    """Write a run folder beside its place, then move it there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"{out.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.mkdir()
        write_atomically(temporary / kind.file, "".join(record.to_line() + "\n" for record in records))
        for file in (file for folder in checkpoints for file in sorted(folder.glob("*.pt"))):
            target = temporary / CHECKPOINTS / file.name
            target.parent.mkdir(exist_ok=True)
            if not target.exists() or target.stat().st_mtime < file.stat().st_mtime:  # one run, begun on two hosts: the later state
                shutil.copy2(file, target)
        write_atomically(temporary / "run.json", json.dumps(description, indent=1))
        os.replace(temporary, out)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            error.filename = str(out)
        raise
    sync_folder(out.parent)
