"""The stored form of results: the keys that other tools read, and what tells a measured case from one that is not."""

import json

import pytest
from pydantic import ValidationError

from mann_bench.data.result import Check, Measured, NotMeasured, parse_result
from tests.support.results import make_result

KEYS = ["schema", "case_id", "status", "reason", "case", "ran", "time", "memory", "check", "recall"]
KEYS += ["warnings", "output", "started_at", "wall_s"]


def test_both_kinds_of_result_have_the_same_keys():
    for result, kind in ((make_result(), Measured), (make_result(status="oom", reason="full"), NotMeasured)):
        fields = json.loads(result.to_line())
        assert list(fields) == KEYS
        assert isinstance(result, kind)
        assert parse_result(fields) == result


def test_ok_needs_a_time():
    fields = json.loads(make_result().to_line())
    with pytest.raises(ValidationError, match="time"):
        parse_result({**fields, "time": None})
    with pytest.raises(ValidationError, match="time"):
        parse_result({**fields, "status": "oom"})


def test_an_error_that_is_infinite_can_be_stored():
    check = Check(compared_with="kernels=torch", max_rel_err=float("inf"), ok=False)
    result = make_result(status="unverified", reason="differs").model_copy(update={"check": check})
    assert parse_result(json.loads(result.to_line())) == result
