"""Types of the fields of records: what can always be written as JSON, read again, and computed with."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

WORD = 2**63  # a column of a data frame, and torch, hold whole numbers below this


def escape(text: Any) -> Any:
    """Write what is no Unicode (lone surrogates, as in a file name of another encoding) as escapes: no file could hold it."""
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text


def _check_moment(text: str) -> str:
    try:
        datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:  # the second: a year that no clock shows
        raise ValueError("expected a date and time such as 2026-01-31T12:00:00+00:00") from error
    return text


Text = Annotated[str, BeforeValidator(escape)]
Count = Annotated[int, Field(ge=1, lt=WORD)]
Whole = Annotated[int, Field(ge=-WORD, lt=WORD)]
Duration = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # the field's name says of what unit
Moment = Annotated[str, AfterValidator(_check_moment)]
