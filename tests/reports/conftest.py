"""Fixtures that write results and read them as reports do."""

from contextlib import nullcontext

import pytest

from mann_bench.reports.data.frame import load_frame


@pytest.fixture(autouse=True)
def charts_are_checked(monkeypatch):
    """The checks of altair, which commands make charts without."""
    monkeypatch.setattr("mann_bench.reports.html.interactive.without_checks", nullcontext)


@pytest.fixture
def frame_of(tmp_path):
    def make(*results):
        (tmp_path / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
        return load_frame([tmp_path])

    return make
