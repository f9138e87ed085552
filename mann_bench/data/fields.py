"""Types of the fields of records: what can always be written as JSON, read again, and computed with."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

LONGEST = 1e12  # ms, over thirty years; longer times and shorter ones than SHORTEST are no measurement, and plots overflow
SHORTEST = 1e-15
WORD = 2**63  # a column of a data frame, and torch, hold whole numbers below this


Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"  # a value that JSON can hold
JsonObject: TypeAlias = dict[str, Any]  # a JSON object or a table of TOML as it was read; who takes a value out knows its type


def escape(text: str) -> str:
    """Write what is no Unicode (lone surrogates, as in a file name of another encoding) as escapes: no file could hold it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _escape_text(value: object) -> object:
    return escape(value) if isinstance(value, str) else value


def _check_moment(text: str) -> str:
    try:
        datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:  # the second: a year that no clock shows
        raise ValueError("expected a date and time such as 2026-01-31T12:00:00+00:00") from error
    return text


Text = Annotated[str, BeforeValidator(_escape_text)]
Count = Annotated[int, Field(ge=1, lt=WORD)]
Whole = Annotated[int, Field(ge=-WORD, lt=WORD)]
Real = Annotated[float, Field(ge=-WORD, le=WORD, allow_inf_nan=False)]
Duration = Annotated[float, Field(ge=0, le=LONGEST, allow_inf_nan=False)]  # the field's name says of what unit
Moment = Annotated[str, AfterValidator(_check_moment)]
