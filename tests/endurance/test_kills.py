"""The short form of `kills.py`."""

import pytest

from tests.endurance import kills


@pytest.mark.slow
def test_a_few_kills():
    assert kills.run(4, seed=1)["faults"] == []
