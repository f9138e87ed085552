"""The stored form of training runs: what can be written and read again, and which values are refused."""

import json

import pytest
from pydantic import ValidationError

from mann_bench.data.errors import StorageWarning
from mann_bench.data.store import load_records
from mann_bench.learn.record import LEARNING, CurvePoint, Evaluation, LearningCase, LearningResult

CASE = LearningCase(task="copy", model="sam", levels=(1, 2), sequences=100)
RESULT = LearningResult(
    case_id=CASE.case_id,
    case=CASE,
    status="budget",
    reason="a file named \udcff",
    curve=[CurvePoint(sequences=50, wall_s=1.0, level=1, loss=0.5, errors=0.1)],
    evaluations=[Evaluation(level=1, error=0.1, sequences=10)],
    sequences=100,
    started_at="2026-01-01T00:00:00+00:00",
    wall_s=2.0,
)


def test_a_result_can_be_read_again():
    assert LEARNING.parse_line(RESULT.to_line().encode()) == LEARNING.parse(json.loads(RESULT.to_line())) == RESULT
    assert RESULT.reason == r"a file named \udcff"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("curve", 0, "wall_s"), -1.0),
        (("curve", 0, "loss"), float("nan")),
        (("curve", 0, "loss"), float("inf")),
        (("curve", 0, "level"), 0),
        (("evaluations", 0, "error"), float("nan")),
        (("wall_s",), float("inf")),
        (("sequences",), 2**63),
        (("started_at",), "soon"),
        (("case", "learning_rate"), float("inf")),
        (("case", "seconds"), float("inf")),
    ],
)
def test_a_line_that_no_report_could_use_is_dropped(tmp_path, path, value):
    fields = json.loads(RESULT.to_line())
    inner = fields
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    with pytest.raises(ValidationError):
        LEARNING.parse_line(json.dumps(fields).encode())
    (tmp_path / "learning.jsonl").write_text(f"{json.dumps(fields)}\n{RESULT.to_line()}\n")
    with pytest.warns(StorageWarning, match=r"learning\.jsonl, line 1: .*This line is left out"):
        assert load_records(tmp_path, LEARNING) == [RESULT]
