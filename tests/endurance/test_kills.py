"""The short forms of `kills.py` and `training_kills.py`, and that what they count can fail."""

import signal

import pytest

from tests.endurance import kills, training_kills
from tests.endurance.killing import Tally, Trial


@pytest.mark.slow
def test_a_few_kills_of_sweeps():
    found = kills.run(4, seed=1)
    assert found["faults"] == []
    assert found["kills"] >= 4


@pytest.mark.slow
def test_a_few_kills_of_training():
    found = training_kills.run(3, seed=1)
    assert found["faults"] == []
    assert found["kills"] >= 3


@pytest.fixture
def trial(tmp_path):
    trial = Trial(None, tmp_path, ["run"], "results.jsonl", 3, lambda record: record["id"])  # type: ignore[arg-type]
    trial.out.mkdir()
    trial.records.write_text('{"id": "a"}\n{"id": "b"}\n')
    trial.check_records("first")
    assert trial.faults == []
    return trial


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('{"id": "a"}\n', "earlier records have changed"),
        ('{"id": "a"}\n{"id": "x"}\n', "earlier records have changed"),
        ('{"id": "a"}\n{"id": "b"}\n{"id": "a"}\n', "a record is there twice"),
    ],
)
def test_what_may_not_become_of_records(trial, content, fault):
    trial.records.write_text(content)
    trial.check_records("second")
    assert fault in trial.faults[0]


def test_a_torn_line_is_no_record(trial):
    trial.records.write_text(trial.records.read_text() + '{"id": "c"')
    trial.check_records("second")
    assert trial.faults == []
    assert not trial.is_complete


def test_a_tally_writes_what_it_knows(tmp_path):
    tally = Tally(2, 7, tmp_path / "found.json")
    tally.add(signal.SIGTERM, "worker", "while appending")
    tally.close([], sweeps=1)
    assert '"kills": 1' in (tmp_path / "found.json").read_text()
    assert not tally.is_done
    assert tally.summary()["by_moment"] == {"while appending": 1}
