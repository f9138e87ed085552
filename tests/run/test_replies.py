"""The pipe between driver and worker: its keys are fixed, because `compare` starts workers of older commits."""

import json

import pytest

from mann_bench.data.result import Check
from mann_bench.measure.device import PassTime
from mann_bench.measure.timing import Round
from mann_bench.run.replies import Failure, Prepared, Started, decode_reply, encode_reply
from tests.support.results import make_result

RESULT = make_result()
PREPARED = Prepared(backend=RESULT.backend, memory=RESULT.memory, first_ms=1.0, warmup_ms=[1.0])
CHECK = Check(compared_with="kernels=torch, index=exact", max_rel_err=float("inf"), ok=False)


@pytest.mark.parametrize(
    ("reply", "keys"),
    [
        (Started(), []),
        (PREPARED, ["ran", "check", "reason", "recall", "memory", "first_ms", "warmup_ms"]),
        (Round(passes=[PassTime(1.5, None, 0.5)]), ["passes", "sensors"]),
        (Failure(status="oom", reason="full"), ["status", "reason"]),
        (Failure(status="unverified", reason="differs", check=CHECK), ["status", "reason", "check"]),
    ],
)
def test_keys_on_the_pipe_and_back(reply, keys):
    line = encode_reply(reply)
    assert list(json.loads(line)) == keys
    assert decode_reply(line.encode(), type(reply)) == reply


def test_passes_are_lists_of_three():
    assert json.loads(encode_reply(Round(passes=[PassTime(1.5, None, 0.5)])))["passes"] == [[1.5, None, 0.5]]


def test_a_failure_comes_instead_of_what_was_asked_for():
    assert decode_reply(b'{"status": "oom", "reason": "full"}', Prepared) == Failure(status="oom", reason="full")
