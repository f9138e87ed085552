"""The lines of a file of records: one record a line. A line that cannot be read costs that line: it is told with its number."""

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from mann_bench.data.errors import StorageWarning, UsageError, first_error
from mann_bench.data.fields import Json
from mann_bench.data.result import SCHEMA, StoredRecord

MOST_BROKEN = 5  # broken lines of a file that are warned of one by one

RecordT = TypeVar("RecordT", bound=StoredRecord)


@dataclass(frozen=True)
class RecordKind(Generic[RecordT]):
    """A kind of record.

    Attributes:
        file: its name in a run's folder.
        command: the command of `mann-bench` that writes it.
        parse_line: a record from a line; pydantic's ValidationError if it holds none.
        parse: the same from a JSON object, with an error that names the field.
    """

    file: str
    command: str
    parse_line: Callable[[bytes], RecordT]
    parse: Callable[[dict[str, Json]], RecordT]


class LineReader(Generic[RecordT]):
    """The records in the complete lines of a file, which end with a newline.

    Attributes:
        good: how many lines held a record.
        broken: what is wrong with the first MOST_BROKEN of the others.
        whole_bytes: bytes of all complete lines.
    """

    def __init__(self, path: Path, kind: RecordKind[RecordT]) -> None:
        self.path, self.kind = path, kind
        self.good = self.whole_bytes = 0
        self.broken: list[str] = []

    def __iter__(self) -> Iterator[RecordT]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                self.whole_bytes += len(line)
                try:
                    record = self.kind.parse_line(line)
                except ValidationError:
                    complaint = f"{self.path}, line {number}: {self._complaint(line, number)}"
                    self.broken += [complaint] if len(self.broken) < MOST_BROKEN else []
                else:
                    self.good += 1
                    yield record

    def warn(self) -> None:
        """Warn of the broken lines."""
        for complaint in self.broken:
            warnings.warn(f"{complaint}. This line is left out; --resume measures its case again", StorageWarning, stacklevel=3)
        if len(self.broken) == MOST_BROKEN:
            warnings.warn(f"{self.path}: further broken lines are not named", StorageWarning, stacklevel=3)

    def _complaint(self, line: bytes, number: int) -> str:
        """What is wrong with a line; UsageError if only a newer mann-bench can read it."""
        try:
            raw = json.loads(line)
        except (ValueError, RecursionError):
            return f"expected one JSON object, got {line[:60]!r}"
        schema = raw.get("schema") if isinstance(raw, dict) else None
        if not isinstance(schema, int):
            return "expected a mann-bench result with a schema number, got a foreign record; is this the right file?"
        if schema > SCHEMA:
            where = f"{self.path}, line {number}"
            raise UsageError(f"{where}: expected schema <= {SCHEMA}, got {schema}; a newer mann-bench wrote this, upgrade to read it")
        try:
            self.kind.parse(raw)
        except ValidationError as error:
            return first_error(error, show_input=False)
        return "expected JSON as mann-bench writes it"
