"""The page of the long trials is what their figures make it."""

import json

import pytest

from tests.endurance import publish


def test_the_page_is_what_the_generator_makes():
    text = publish.PAGE.read_text()
    assert publish.page(text) == text


@pytest.fixture
def figures(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "FIGURES", tmp_path / "reliability.json")
    return tmp_path


def test_faults_are_counted_by_kind(figures):
    counts = {"by_signal": {"SIGKILL": 2, "SIGINT": 1}, "by_target": {"driver": 3}, "by_moment": {"while appending": 3}}
    faults = ["SIGKILL driver: earlier records have changed; start 2 (forked); it printed: x", "it ended by itself; start 1; it printed: y"]
    (figures / "kills.json").write_text(json.dumps({"kills": 3, **counts, "faults": faults}))
    publish.add("sweeps", "0123456789", [figures / "kills.json"])
    row = publish.tables(publish.load()).splitlines()[2]
    assert row.startswith("| sweeps | 3 | KILL 2, INT 1 | driver 3 | while appending 3 | 0 | 1 | 0 | 0 | 1 | 0123456, ")
    assert publish.load()[0]["faults"] == ["SIGKILL driver: earlier records have changed", "it ended by itself"]


def test_configurations_are_counted_by_verdict(figures):
    (figures / "found.json").write_text(
        json.dumps({"configurations": 1200, "verdicts": {"alike": 1199, "different": 1}, "faults": ["--only 7"]})
    )
    publish.add("configurations under sanitizers", "0123456789", [figures / "found.json", figures / "found.json"])
    row = publish.tables(publish.load()).splitlines()[2]
    assert row.startswith("| configurations under sanitizers | 2,400 | 2,398 | 0 | 0 | 2 | 0123456, ")
