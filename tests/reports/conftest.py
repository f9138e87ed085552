"""Fixtures that write results and read them as reports do."""

import pytest

from mann_bench.reports.data.frame import load_frame


@pytest.fixture
def frame_of(tmp_path):
    def make(*results):
        (tmp_path / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
        return load_frame([tmp_path])

    return make
