"""The pipe between driver and worker: its keys are fixed, because `compare` starts workers of older commits."""

import json

import pytest

from mann_bench.data.result import Check
from mann_bench.measure.device import PassTime
from mann_bench.measure.timing import Round
from mann_bench.run.replies import Failure, Prepared, Started, decode_reply, reply_fields
from tests.support.results import make_result

RESULT = make_result()
PREPARED = Prepared(backend=RESULT.backend, memory=RESULT.memory, first_ms=1.0, warmup_ms=[1.0])
CHECK = Check(compared_with="kernels=torch, index=exact", max_rel_err=float("inf"), ok=False)


@pytest.mark.parametrize(
    ("reply", "keys"),
    [
        (Started(), []),
        (PREPARED, ["ran", "check", "reason", "recall", "memory", "floor", "first_ms", "warmup_ms", "warnings"]),
        (Round(passes=[PassTime(1.5, None, 0.5)]), ["passes", "sensors", "warnings"]),
        (Failure(status="oom", reason="full"), ["status", "reason"]),
        (Failure(status="unverified", reason="differs", check=CHECK), ["status", "reason", "check"]),
    ],
)
def test_keys_on_the_pipe_and_back(reply, keys):
    fields = reply_fields(reply)
    assert list(fields) == keys
    assert decode_reply(json.dumps(fields).encode(), type(reply)) == reply
    assert decode_reply(json.dumps({"number": 3, "reply": fields}).encode(), type(reply), 3) == reply


def test_passes_are_lists_of_three():
    assert json.loads(json.dumps(reply_fields(Round(passes=[PassTime(1.5, None, 0.5)]))))["passes"] == [[1.5, None, 0.5]]


@pytest.mark.parametrize(
    "line",
    [
        b"welcome to this cluster",
        b"",
        b"[1, 2]",
        b"7",
        b"null",
        b"[" * 10**5,
        b'{"number": 3, "reply": {"passes": "many"}}',
        b'{"number": 3, "reply": {"status": "fine", "reason": "made up"}}',
        b'{"number": 2, "reply": {"passes": []}}',  # of the command before
        b'{"number": 3}',
        b'{"passes": []}',
    ],
)
def test_a_line_that_is_not_a_reply_is_a_failure_of_the_case(line):
    reply = decode_reply(line, Round, 3)
    assert isinstance(reply, Failure)
    assert reply.status == "error"
    assert "expected a reply of the worker" in reply.reason


def test_reasons_are_one_printable_line():
    reason = Failure(status="error", reason="\ud800\x1b[2J" + 10**7 * "x" + "\nsecond line").reason
    assert reason.startswith(r"\ud800\x1b[2Jxxx")
    assert len(reason) == 500
    assert decode_reply(json.dumps({"status": "oom", "reason": "a\udc80"}).encode(), Round).model_dump_json()


def test_a_failure_comes_instead_of_what_was_asked_for():
    assert decode_reply(b'{"status": "oom", "reason": "full"}', Prepared) == Failure(status="oom", reason="full")


@pytest.mark.parametrize("recall", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_recall_that_no_result_can_hold_is_a_failure_before_anything_else_fails(recall):
    line = json.dumps({**reply_fields(PREPARED), "recall": recall}).encode()
    assert isinstance(decode_reply(line, Prepared), Failure)
