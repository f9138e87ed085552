"""Where results live: `RUN/results.jsonl`, one finished case a line, durable at once; `RUN/run.json`, what the run is.

Other kinds of record live the same way in a file of their own, named by the record's class.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from mann_bench.data.errors import UsageError
from mann_bench.data.result import SCHEMA, Result, StoredRecord

Kind = TypeVar("Kind", bound=StoredRecord)


def load_results(run: Path) -> list[Result]:
    """All results of a run, as `load_records`."""
    return load_records(run, Result)


def load_records(run: Path, kind: type[Kind]) -> list[Kind]:
    """All records of a kind; a torn last line is dropped. UsageError naming file and line for anything else that is no such record."""
    path = run / kind.FILE if run.is_dir() else run
    if not path.is_file():
        raise UsageError(f"{run}: expected a run folder holding {kind.FILE}, got none; `mann-bench {kind.COMMAND}` writes one")
    lines = path.read_bytes().split(b"\n")
    results = []
    for number, line in enumerate(lines, 1):
        if number == len(lines):  # complete lines end with a newline: what follows the last one was torn
            break
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
            results.append(kind.model_validate(raw))
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if not results:
        what = "a half-written first line" if lines[0] else "an empty file"
        raise UsageError(f"{path}, line 1: expected at least one finished case, got {what}; run or --resume it first")
    return results


def load_run(run: Path) -> dict[str, Any]:
    """`run.json`, or an empty dictionary if there is none."""
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


class RecordFolder(Generic[Kind]):
    """The folder of a run being written, of one kind of record; at most one process at a time."""

    def __init__(self, path: Path, description: dict[str, Any], kind: type[Kind], *, resume: bool) -> None:
        self.path = path
        self.results_path = path / kind.FILE
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
            if existing and not self._goes_on(existing, description):
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

    def append(self, result: Kind) -> None:
        """Store one finished case durably; on failure (a full disk) nothing of it is left and OSError is raised."""
        before = self._size()
        line = (result.to_line() + "\n").encode()
        descriptor = os.open(self.results_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            written = 0
            while written < len(line):
                written += os.write(descriptor, line[written:])
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise
        finally:
            os.close(descriptor)
        self.records.append(result)

    def close(self) -> None:
        """Let others write here."""
        os.close(self._lock)

    def _goes_on(self, existing: dict[str, Any], description: dict[str, Any]) -> bool:
        """Whether what is planned is what was planned here: the same cases or, where the plan has `run_ids`, the same runs."""
        if existing.get("case_ids") == description["case_ids"]:
            return True
        before = existing.get("run_ids", [record.run_id for record in self.records])  # folders of old: known where all have finished
        return "run_ids" in description and set(before) == set(description["run_ids"])

    def _size(self) -> int:
        return self.results_path.stat().st_size if self.results_path.exists() else 0

    def _drop_torn_line(self) -> None:
        if self._size():
            content = self.results_path.read_bytes()
            os.truncate(self.results_path, content.rfind(b"\n") + 1)


class RunFolder(RecordFolder[Result]):
    """The folder of a run of measured cases."""

    def __init__(self, path: Path, description: dict[str, Any], *, resume: bool) -> None:
        super().__init__(path, description, Result, resume=resume)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; when this returns, it survives whatever comes."""
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
