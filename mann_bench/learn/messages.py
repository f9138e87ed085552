"""What a training process tells its driver, as JSON lines: each message has one of these keys.

{"progress": {"sequences": 12800, "level": 8, "loss": 0.31, "rate": 900.0, "wall_s": 14.2}}    twice a second at most
{"evaluating": 80}                                                                            the level
{"stopped": true}                                                                             after a signal, with a checkpoint
{"result": {...}}                                                                             fields of a `LearningResult`
{"disk": "No space left on device"}                                                           no checkpoint could be written
"""

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mann_bench.data.fields import JsonObject
from mann_bench.run.replies import Failure


class TrainingProgress(BaseModel):
    """How far training is. `rate`: sequences a second since the last message."""

    sequences: int
    level: int
    loss: float
    rate: float
    wall_s: float


class Message(BaseModel):
    """One message; one field is set."""

    model_config = ConfigDict(extra="forbid")

    progress: TrainingProgress | None = None
    evaluating: int | None = None
    stopped: bool | None = None
    result: JsonObject | None = None
    disk: str | None = None

    @model_validator(mode="after")
    def _one(self) -> "Message":
        if len(self.model_fields_set) != 1:
            raise ValueError("expected one key")
        return self


def decode_message(line: bytes) -> Message | Failure:
    """The message in a line from a training process; a failure of its run if it is none."""
    try:
        return Message.model_validate_json(line)
    except ValidationError:
        reason = f"expected a message of the training process, got {line[:60]!r}; does the model write into files it did not open?"
        return Failure(status="error", reason=reason)
