"""Results on disk: `RUN/run.json` describes the run, `RUN/results.jsonl` holds one finished case a line, each synced to disk at once.

Other kinds of record are stored the same way in a file of their own (`RecordKind`). One writer at a time has a folder.
"""

import contextlib
import json
import os
import platform
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Generic

from mann_bench.data.conditions import Conditions, RunDescription, all_conditions, changes, first_conditions
from mann_bench.data.errors import StorageWarning, UsageError
from mann_bench.data.files import open_locked, remove_torn, sync_folder, write_atomically
from mann_bench.data.lines import LineReader, RecordKind, RecordT
from mann_bench.data.plans import continued, other_plan, same_plan, shard_in_words
from mann_bench.data.result import SCHEMA, Result, parse_line, parse_result

RESULTS: RecordKind[Result] = RecordKind("results.jsonl", "run", parse_line, parse_result)


def load_results(run: Path) -> list[Result]:
    """Load all results of a run; raises and warns as `iter_records`."""
    return load_records(run, RESULTS)


def load_records(run: Path, kind: RecordKind[RecordT]) -> list[RecordT]:
    """Load all records of one kind; raises and warns as `iter_records`."""
    return list(iter_records(run, kind))


def iter_records(run: Path, kind: RecordKind[RecordT]) -> Iterator[RecordT]:
    """Load the records of one kind one by one. An incomplete last line, left by a run that was killed, is dropped.

    Lines that hold no such record are left out; StorageWarning names file and line.

    Args:
        run: a run's folder, or the file itself.

    Raises:
        UsageError: no line holds such a record, or a newer mann-bench wrote one.
    """
    path = run / kind.file if run.is_dir() else run
    if not path.is_file():
        raise UsageError(f"{run}: expected a run folder holding {kind.file}, got none; `mann-bench {kind.command}` writes one")
    lines = LineReader(path, kind)
    yield from lines
    if not lines.good:
        what = "a half-written first line" if path.stat().st_size else "an empty file"
        nothing = f"{path}, line 1: expected at least one finished case, got {what}; run or --resume it first"
        raise UsageError(lines.broken[0] if lines.broken else nothing)
    lines.warn()


def load_run(run: Path) -> RunDescription:
    """Load `run.json`; an empty dictionary if there is none. UsageError if it is not what a run writes."""
    path = run / "run.json"
    if not path.is_file():
        return {}
    try:
        description: RunDescription = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected JSON, got something else ({error}); take the file from a backup, or remove it") from error
    if not isinstance(description, dict) or not _has_conditions(description):
        raise UsageError(f"{path}, line 1: expected what `mann-bench run` writes there, got a foreign file; is this the right folder?")
    schema = description.get("schema", SCHEMA)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise UsageError(f"{path}: expected schema <= {SCHEMA}, got {schema!r}; a newer mann-bench wrote this, upgrade to read it")
    return description


def _has_conditions(description: Mapping[str, object]) -> bool:
    """Whether what `mann_bench.data.conditions` reads has the types that it expects."""
    later = description.get("resumed", [])
    parts = [description, *later] if isinstance(later, list) else [None]
    tables = ("environment", "budget", "study", "axes", "shard")
    axes = description.get("axes", {})
    return all(isinstance(values, list) for values in (axes.values() if isinstance(axes, dict) else ())) and all(
        isinstance(part, dict) and all(isinstance(part.get(name, {}), dict) for name in tables) for part in parts
    )


class RecordFolder(Generic[RecordT]):
    """The folder of a run that is being written; a lock on the file of its records keeps other processes out.

    A run that was killed before `run.json` stood can be started again, with or without `resume`.

    Args:
        description: content of `run.json`.
        resume: go on with the run that is in the folder; otherwise the folder must be new or empty.

    Raises:
        UsageError: the folder holds something else, is locked, or holds a run of other cases.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, description: RunDescription, kind: RecordKind[RecordT], *, resume: bool) -> None:
        self.path, self.kind = path, kind
        self.results_path = path / kind.file
        run = self._existing_run(resume=resume)
        path.mkdir(parents=True, exist_ok=True)
        try:
            self._file = open_locked(self.results_path)
        except BlockingIOError as error:
            raise UsageError(f"--out {path}: another mann-bench is writing there; wait for it or name another folder") from error
        try:
            self._begin(run, json.loads(json.dumps(description)))  # as it will be read again
        except BaseException:
            self.close()
            raise

    @property
    def conditions(self) -> Conditions:
        """The conditions of this process."""
        return self._now

    @property
    def finished(self) -> set[str]:
        """Ids of the cases that have a record."""
        return set(self._attempts)

    def append(self, record: RecordT, ran: Conditions | None = None, lost: int = 0) -> RecordT:
        """Store a record and sync it to disk.

        Args:
            ran: the conditions that it was measured under, on another host; by default those of this process.
            lost: tries of it before this one that left no record.

        Returns:
            The record as stored: with the machine's name, and the numbers of its conditions and of its attempt.

        Raises:
            OSError: on failure (a full disk), after which no part of the record is left.
            UsageError: the file was removed or replaced since it was opened: somebody else may write there.
        """
        conditions = self._number_of(ran or self._now)
        attempt = self._attempts[record.case_id] + lost + 1
        host = (ran or {}).get("host", platform.node())
        record = record.model_copy(update={"host": host, "conditions": conditions, "attempt": attempt})
        line = (record.to_line() + "\n").encode()
        self._check_place()
        size_before = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):  # what is left then is a torn line, which readers drop
                os.ftruncate(self._file, size_before)
            raise
        self.records.append(record)
        self._attempts[record.case_id] = attempt
        return record

    def close(self) -> None:
        """Release the lock."""
        os.close(self._file)

    def _existing_run(self, *, resume: bool) -> RunDescription:
        """`run.json` of the run to go on with; empty if the folder is new."""
        if not self.path.exists():
            if resume:
                raise UsageError(f"--resume {self.path}: expected a folder with run.json, got none; start without --resume")
            return {}
        existing = load_run(self.path)
        if existing and not resume:
            of_shard = f", {shard_in_words(existing)}" if "shard" in existing else ""
            raise UsageError(
                f"--out {self.path}: expected a new or empty folder, got one with another run{of_shard}; "
                "add --resume to go on with it, or name another"
            )
        if not existing and not all(map(self._is_left_over, self.path.iterdir())):
            option = "--resume" if resume else "--out"
            raise UsageError(
                f"{option} {self.path}: expected a run or an empty folder, got other files without run.json; name another folder"
            )
        return existing

    def _is_left_over(self, entry: Path) -> bool:
        """Whether a file may be what a run leaves that is killed before `run.json` stands."""
        torn = entry.name.startswith("run.json.") and entry.name.endswith(".part")
        return torn or entry.name == ".lock" or (entry.name == self.kind.file and entry.stat().st_size == 0)

    def _begin(self, run: RunDescription, description: RunDescription) -> None:
        """Load what the folder holds, check that it is the same run, and find the number of the present conditions."""
        remove_torn(self.path / "run.json")
        lines = LineReader(self.results_path, self.kind)
        self.records = list(lines)
        os.ftruncate(self._file, lines.whole_bytes)
        lines.warn()
        self._attempts = Counter(record.case_id for record in self.records)
        if run and not same_plan(run, description):
            raise UsageError(f"--resume {self.path}: {other_plan(run, description)}; give the same suite and options")
        self._run = continued(run, description) if run else description
        self._now = first_conditions(description)
        known = all_conditions(self._run)
        if all(changes(other, self._now) for other in known):
            differing = "; ".join(changes(known[-1], self._now))
            warnings.warn(
                f"{self.path}: goes on under other conditions than before ({differing}); each result says which are its own",
                StorageWarning,
                stacklevel=4,
            )
        if self._run != run:
            write_atomically(self.path / "run.json", json.dumps(self._run, indent=1))
        sync_folder(self.path)

    def _number_of(self, conditions: Conditions) -> int:
        """The number of conditions in `run.json`, to which they are added before the first record that was measured under them."""
        known = all_conditions(self._run)
        for number, other in enumerate(known):
            if not changes(other, conditions):
                return number
        self._run["resumed"] = [*self._run.get("resumed", []), conditions]
        write_atomically(self.path / "run.json", json.dumps(self._run, indent=1))
        return len(known)

    def _check_place(self) -> None:
        """UsageError unless the open file is the one of that name: a removed file takes its lock with it."""
        try:
            same = os.path.samestat(os.fstat(self._file), self.results_path.stat())
        except FileNotFoundError:
            same = False
        if not same:
            raise UsageError(
                f"{self.results_path}: expected the file that this run opened, got none or another; "
                "another mann-bench may be writing there: start again in another folder"
            )


class RunFolder(RecordFolder[Result]):
    """The folder of a run of `mann-bench run`."""

    def __init__(self, path: Path, description: RunDescription, *, resume: bool) -> None:
        super().__init__(path, description, RESULTS, resume=resume)
