"""Results on disk: `RUN/run.json` describes the run, `RUN/results.jsonl` holds one finished case a line, each synced to disk at once.

Other kinds of record are stored the same way in a file of their own (`RecordKind`).
"""

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from mann_bench.data.errors import UsageError, first_error
from mann_bench.data.result import SCHEMA, Result, StoredRecord, parse_result

RecordT = TypeVar("RecordT", bound=StoredRecord)


@dataclass(frozen=True)
class RecordKind(Generic[RecordT]):
    """A kind of record: its file in a run's folder, the command of `mann-bench` that writes it, and how a JSON object becomes one."""

    file: str
    command: str
    parse: Callable[[dict[str, Any]], RecordT]


RESULTS: RecordKind[Result] = RecordKind("results.jsonl", "run", parse_result)


def load_results(run: Path) -> list[Result]:
    """Load all results of a run; raises as `load_records`."""
    return load_records(run, RESULTS)


def load_records(run: Path, kind: RecordKind[RecordT]) -> list[RecordT]:
    """Load all records of one kind. An incomplete last line, left by a run that was killed, is dropped.

    Args:
        run: a run's folder, or the file itself.

    Raises:
        UsageError: a line holds no such record, or there is none; the message names file and line.
    """
    path = run / kind.file if run.is_dir() else run
    if not path.is_file():
        raise UsageError(f"{run}: expected a run folder holding {kind.file}, got none; `mann-bench {kind.command}` writes one")
    *lines, torn = path.read_bytes().split(b"\n")  # complete lines end with a newline
    records = []
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            raw = json.loads(line)
        except ValueError as error:
            raise UsageError(
                f"{where}: expected one JSON object, got {line[:60]!r}; delete the line or take the file from a backup"
            ) from error
        schema = raw.get("schema") if isinstance(raw, dict) else None
        if not isinstance(schema, int):
            raise UsageError(f"{where}: expected a mann-bench result with a schema number, got a foreign record; is this the right file?")
        if schema > SCHEMA:
            raise UsageError(f"{where}: expected schema <= {SCHEMA}, got {schema}; a newer mann-bench wrote this, upgrade to read it")
        try:
            records.append(kind.parse(raw))
        except ValidationError as error:
            raise UsageError(f"{where}: {first_error(error, show_input=False)}") from error
    if not records:
        what = "a half-written first line" if torn else "an empty file"
        raise UsageError(f"{path}, line 1: expected at least one finished case, got {what}; run or --resume it first")
    return records


def load_run(run: Path) -> dict[str, Any]:
    """Load `run.json`; an empty dictionary if there is none. UsageError if it is not what a run writes."""
    path = run / "run.json"
    if not path.is_file():
        return {}
    try:
        description = json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path}: expected JSON, got something else ({error}); take the file from a backup, or remove it") from error
    if not isinstance(description, dict) or not isinstance(description.get("environment", {}), dict):
        raise UsageError(f"{path}, line 1: expected what `mann-bench run` writes there, got a foreign file; is this the right folder?")
    schema = description.get("schema", SCHEMA)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise UsageError(f"{path}: expected schema <= {SCHEMA}, got {schema!r}; a newer mann-bench wrote this, upgrade to read it")
    return description


class RecordFolder(Generic[RecordT]):
    """The folder of a run that is being written; a lock keeps other processes out.

    Args:
        description: content of `run.json`.
        resume: go on with the run that is in the folder; otherwise the folder must be new or empty.

    Raises:
        UsageError: the folder holds something else, is locked, or holds a run of other cases.
    """

    def __init__(self, path: Path, description: dict[str, Any], kind: RecordKind[RecordT], *, resume: bool) -> None:
        self.path = path
        self.results_path = path / kind.file
        existing = load_run(path) if path.exists() else {}
        if path.exists() and any(path.iterdir()) and not resume:
            what = "another run" if existing else "other files"
            raise UsageError(
                f"--out {path}: expected a new or empty folder, got one with {what}; add --resume to go on with it, or name another"
            )
        if resume and not existing:
            raise UsageError(f"--resume {path}: expected a folder with run.json, got none; start without --resume")
        path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise UsageError(f"--out {path}: another mann-bench is writing there; wait for it or name another folder") from error
        try:
            if not existing:
                write_atomically(path / "run.json", json.dumps(description, indent=1))
            self._drop_torn_line()
            self.records = load_records(path, kind) if self._size() else []
            if existing and not _same_plan(existing, description):
                raise UsageError(
                    f"--resume {path}: that run has {len(existing.get('case_ids', []))} cases of suite {existing.get('suite')!r}, "
                    f"this command plans {len(description['case_ids'])} others of {description['suite']!r}; give the same suite and options"
                )
        except UsageError:
            self.close()
            raise

    @property
    def finished(self) -> set[str]:
        """Ids of the cases that have a record."""
        return {record.case_id for record in self.records}

    def append(self, record: RecordT) -> None:
        """Store a record and sync it to disk. OSError on failure (a full disk), after which no part of the record is left."""
        size_before = self._size()
        line = (record.to_line() + "\n").encode()
        descriptor = os.open(self.results_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            written = 0
            while written < len(line):
                written += os.write(descriptor, line[written:])
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size_before)
            raise
        finally:
            os.close(descriptor)
        self.records.append(record)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)

    def _size(self) -> int:
        return self.results_path.stat().st_size if self.results_path.exists() else 0

    def _drop_torn_line(self) -> None:
        if self._size():
            content = self.results_path.read_bytes()
            os.truncate(self.results_path, content.rfind(b"\n") + 1)


class RunFolder(RecordFolder[Result]):
    """The folder of a run of `mann-bench run`."""

    def __init__(self, path: Path, description: dict[str, Any], *, resume: bool) -> None:
        super().__init__(path, description, RESULTS, resume=resume)


def _same_plan(existing: dict[str, Any], description: dict[str, Any]) -> bool:
    """Whether two descriptions plan the same cases or, where both name training runs, the same runs (whose limits may differ)."""
    if existing.get("case_ids") == description["case_ids"]:
        return True
    return "run_ids" in existing and "run_ids" in description and set(existing["run_ids"]) == set(description["run_ids"])


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, and sync it to disk."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
