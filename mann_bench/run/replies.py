"""What a worker process answers: records in Python (these, and `Round` of `measure.timing`), JSON objects on the pipe.

The keys on the pipe are fixed, and keys that a record does not know are ignored: `compare` starts workers of older commits. An object with
a `status` is a failure, whatever was asked.
"""

import json
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from mann_bench.data.fields import Text
from mann_bench.data.result import Backend, Check, FailedStatus, Memory

ReplyT = TypeVar("ReplyT", bound=BaseModel)


class Reply(BaseModel):
    """Base of the replies."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Started(Reply):
    """The worker has imported what it needs."""


class Prepared(Reply):
    """A case is built, verified, measured for memory and warmed up. `reason`: why other kernels run than the case asks for, if so."""

    backend: Backend = Field(alias="ran")
    check: Check | None = None
    reason: Text | None = None
    recall: float | None = None
    memory: Memory
    first_ms: float | None = None
    warmup_ms: list[float]


class Failure(Reply):
    """Why there is no other reply, or why a case is not even started. `check`: the comparison that failed, where it is `unverified`."""

    status: FailedStatus
    reason: Text
    check: Check | None = None


def encode_reply(reply: BaseModel) -> str:
    """The JSON object that is sent for a reply."""
    return json.dumps(reply.model_dump(by_alias=True, exclude_none=isinstance(reply, Failure)))


def decode_reply(line: bytes, kind: type[ReplyT]) -> ReplyT | Failure:
    """The reply in a line from a worker: of the kind that was asked for, or a failure."""
    fields = json.loads(line)
    return Failure.model_validate(fields) if "status" in fields else kind.model_validate(fields)
