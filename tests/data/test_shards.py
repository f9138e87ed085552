"""Shards: the same division everywhere, balanced, every unit once; bad numbers are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mann_bench.data.errors import UsageError
from mann_bench.data.shards import Shard, divide, parse_shard


def test_a_shard_is_written_as_a_fraction():
    assert parse_shard(" 3/16") == Shard(3, 16)
    assert str(Shard(3, 16)) == "3/16"


@pytest.mark.parametrize("text", ["17/16", "0/4", "1/0", "3", "a/b", "-1/4", "1/200000", "1/4/2", ""])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UsageError, match=r"--shard: expected NUMBER/COUNT .* got"):
        parse_shard(text)


@given(st.lists(st.floats(0, 1e6), max_size=60), st.integers(1, 20))
def test_every_unit_is_in_one_part_and_no_part_has_much_more_than_its_share(seconds, count):
    parts = divide(seconds, count)
    assert len(parts) == count
    assert sorted(unit for part in parts for unit in part) == list(range(len(seconds)))
    loads = [sum(seconds[unit] for unit in part) for part in parts]
    assert max(loads) <= sum(seconds) / count + max(seconds, default=0) + 0.1


def test_the_last_bits_of_a_prediction_do_not_change_a_division():
    seconds = [1.1, 2.2, 3.3, 1.1, 2.2]
    assert divide(seconds, 3) == divide([each * (1 + 1e-12) for each in seconds], 3)


def test_units_without_time_are_spread_too():
    assert sorted(map(len, divide([0.0] * 6, 3))) == [2, 2, 2]
