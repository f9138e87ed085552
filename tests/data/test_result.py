"""The stored form of results: the keys that other tools read, what can be written and read again, and which values are refused."""

import json

import pytest
from pydantic import ValidationError

from mann_bench.data.case import Case
from mann_bench.data.result import Backend, Check, Measured, NotMeasured, parse_line, parse_result
from tests.support.results import make_result

KEYS = [
    *("schema", "case_id", "host", "conditions", "attempt", "status", "reason", "case", "ran", "time", "memory", "check", "recall"),
    *("floor", "warnings", "output", "started_at", "wall_s", "comparison"),
]
ADDED = ("host", "conditions", "attempt", "warnings", "output", "comparison", "floor")  # since 0.2.0
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
MEASURED = json.loads(make_result().to_line())


def changed(path, value):
    """The fields of a measured result, one of them changed, as the text of JSON."""
    fields = json.loads(json.dumps(MEASURED))
    *groups, last = path.split(".")
    inner = fields
    for group in groups:
        inner = inner[group]
    inner[last] = value
    return json.dumps(fields).encode()


def test_both_kinds_of_result_have_the_same_keys():
    for result, kind in ((make_result(), Measured), (make_result(status="oom", reason="full"), NotMeasured)):
        fields = json.loads(result.to_line())
        assert list(fields) == KEYS
        assert isinstance(result, kind)
        assert parse_result(fields) == parse_line(result.to_line().encode()) == result


def test_results_of_older_versions_can_be_read():
    older = {key: value for key, value in MEASURED.items() if key not in ADDED}
    assert parse_line(json.dumps(older).encode()) == make_result()


def test_ok_needs_a_time():
    with pytest.raises(ValidationError, match="time"):
        parse_result({**MEASURED, "time": None})
    with pytest.raises(ValidationError, match="time"):
        parse_result({**MEASURED, "status": "oom"})


@pytest.mark.parametrize("error", [float("inf"), float("-inf"), float("nan")])
def test_an_error_that_is_not_finite_can_be_stored(error):
    check = Check(compared_with="kernels=torch", max_rel_err=error, ok=False)
    result = make_result(status="unverified", reason="differs").model_copy(update={"check": check})
    assert parse_line(result.to_line().encode()).to_line() == result.to_line()


def test_texts_that_are_not_unicode_can_be_stored():
    result = NotMeasured.model_validate({**MEASURED, "status": "error", "time": None, "reason": "no file b\udcff\ud800.png"})
    assert parse_line(result.to_line().encode()).reason == r"no file b\udcff\ud800.png"
    assert Backend(kernels="\udcff", index="\udcff", device_name="\udcff").model_dump_json().encode()
    assert Case(suite="s", model="caf\udce9:Model", slots=4).model_dump_json().encode()


@pytest.mark.parametrize("path", ["time.pass_ms.median", "time.pass_ms.samples", "time.step_ms.ci_low", "time.first_ms", "wall_s"])
@pytest.mark.parametrize("bad", [-1.0, *map(float, NOT_FINITE)])
def test_times_that_make_no_sense_are_refused(path, bad):
    with pytest.raises(ValidationError, match=path.split(".")[-1]):
        parse_line(changed(path, [1.0, bad] if path.endswith("samples") else bad))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("time.pass_ms.samples", [], "at least 1 item"),
        ("time.pass_ms.samples", [1.0, 0.0], "take some time, got 0 ms"),
        ("time.step_ms.ci_low", 0.0, "take some time, got 0 ms"),
        ("time.step_ms.ci_low", 2.0, "expected ci_low <= median <= ci_high"),
        ("time.round_counts", [2, 2], "expected 3 samples in all, got 4"),
        ("time.round_counts", [3, 0], "greater than or equal to 1"),
        ("time.pass_ms.samples", [1e-308], "take some time"),
        ("time.pass_ms.ci_high", 1e308, "less than or equal to"),
        ("memory.bytes_per_step", float("nan"), "finite number"),
        ("memory.bytes_per_step", 1e308, "less than or equal to"),
        ("recall", 1.5, "less than or equal to 1"),
        ("recall", float("nan"), "finite|than or equal"),
        ("memory.peak_bytes", 10**400, "less than|out of range"),
        ("started_at", "yesterday", "expected a date and time"),
        ("started_at", "0001-01-01T00:00:00", "expected a date and time"),
        ("case.slots", 2**63, "less than"),
        ("conditions", -1, "greater than or equal to 0"),
        ("schema", 2, "less than or equal to 1"),
    ],
)
def test_what_no_report_could_use_is_refused(path, value, message):
    with pytest.raises(ValidationError, match=message):
        parse_line(changed(path, value))
