"""The table of `largest`: sizes as people write them, a word where nothing fits, and how long it may take."""

import json
import re

import pytest

from mann_bench.data.suite import Budget
from mann_bench.run.largest import effort

ROWS = [
    {
        "model": "sam",
        "mode": "train",
        "predicted N": 5284,
        "measured N": 1048576,
        "ms a step": 0.5,
        "peak": "1 GiB",
        "what stopped it": "oom",
    },
    {
        "model": "m:own",
        "mode": "infer",
        "predicted N": None,
        "measured N": 0,
        "ms a step": None,
        "peak": None,
        "what stopped it": "N = 8: oom",
    },
]


@pytest.fixture
def found(monkeypatch, tmp_path):
    """A search that finds `ROWS`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mann_bench.run.session.search_and_store", lambda *_: ROWS)


def test_sizes_and_words(call, found):
    done = call("largest", "sam", "ntm", "--memory", "1G", "--seconds", "60")
    assert done.returncode == 0
    cells = [re.split(r"\s{2,}", line.strip()) for line in done.stdout.splitlines()[1:]]
    assert cells[0] == ["sam", "train", "5.16k", "1M", "0.5", "1 GiB", "oom"]
    assert cells[1][2:6] == ["no formula", "none fits", "-", "-"]
    assert "m:own infer: nothing fits into 1 GiB and 1 min\n" in done.stdout


def test_the_effort_is_told_before_the_first_run():
    told = effort(4, Budget(case_seconds=60))
    assert told == "4 searches, each by about 8 runs of at most 1 min: likely under 32 min, never over 2.13 h"


def test_json_has_numbers(call, found):
    assert json.loads(call("largest", "sam", "--json").stdout) == ROWS
