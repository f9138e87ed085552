"""What a worker process answers: records in Python (these, and `Round` of `measure.timing`), JSON objects on the pipe.

The keys on the pipe are fixed, and keys that a record does not know are ignored: `compare` starts workers of older commits. An object with
a `status` is a failure, whatever was asked.
"""

import json
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mann_bench.data.fields import Json, Text
from mann_bench.data.result import Backend, Check, FailedStatus, Floor, Memory
from mann_bench.run.words import reason_line

ReplyT = TypeVar("ReplyT", bound=BaseModel)
Sentence = Annotated[Text, AfterValidator(reason_line)]


class Reply(BaseModel):
    """Base of the replies."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Started(Reply):
    """The worker has imported what it needs."""


class Prepared(Reply):
    """A case is built, verified, measured for memory and warmed up. `reason`: why other kernels run than the case asks for, if so.

    `warnings`: what the model does besides computing (`measure/conduct.py`).
    """

    backend: Backend = Field(alias="ran")
    check: Check | None = None
    reason: Sentence | None = None
    recall: float | None = Field(None, ge=0, le=1)
    memory: Memory
    floor: Floor | None = None
    first_ms: float | None = None
    warmup_ms: list[float]
    warnings: list[Sentence] = Field(default_factory=list)


class Copied(Reply):
    """Rates of copies, in bytes read and written a second; none if there was no room."""

    rates: list[float]


class Failure(Reply):
    """Why there is no other reply, or why a case is not even started. `check`: the comparison that failed, where it is `unverified`."""

    status: FailedStatus
    reason: Sentence
    check: Check | None = None


class Killed(Failure):
    """The worker was ended by a signal that anybody may send, such as the scheduler of a cluster: its case is worth another try."""


def reply_fields(reply: BaseModel) -> dict[str, Json]:
    """The JSON object that is sent for a reply."""
    return reply.model_dump(by_alias=True, exclude_none=isinstance(reply, Failure))


def decode_reply(line: bytes, kind: type[ReplyT], number: int | None = None) -> ReplyT | Failure:
    """The reply in a line from a worker: of the kind that was asked for, or a failure, which anything else is too.

    Args:
        number: of the command that it must answer; None: the worker does not know of numbers.
    """
    try:
        message = json.loads(line)
        if number is not None:
            if message["number"] != number:
                raise ValueError(f"an answer to command {message['number']} instead of {number}")
            message = message["reply"]
        return Failure.model_validate(message) if "status" in message else kind.model_validate(message)
    except (ValueError, TypeError, KeyError, RecursionError) as error:  # pydantic's ValidationError is a ValueError
        got = f"{line[:60]!r} ({type(error).__name__})"
        return Failure(
            status="error", reason=f"expected a reply of the worker, got {got}; does the model write into files it did not open?"
        )
