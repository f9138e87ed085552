"""The short form of `tests.endurance.kills`."""

import json

import pytest

from tests.endurance.kills import FAULTS, main


@pytest.mark.slow
def test_a_few_kills_lose_nothing(tmp_path):
    assert main(["--sweeps", "6", "--training", "3", "--seed", "1", "--out", str(tmp_path / "kills.json")]) == 0
    counts = json.loads((tmp_path / "kills.json").read_text())
    assert counts["sweeps"]["kills"] == 6
    assert counts["training"]["kills"] == 3
    assert not any(counts[kind].get(fault) for kind in ("sweeps", "training") for fault in FAULTS)
