"""Training runs in shards: each in one, balanced by what formulas predict."""

import pytest

from mann_bench.data.shards import Shard
from mann_bench.learn.division import part_of_runs, seconds_of
from mann_bench.learn.record import LearningCase


def case(**fields):
    return LearningCase(**{"task": "copy", "model": "lstm", "levels": (1, 2), "sequences": 1000, **fields})


def test_each_run_is_in_one_shard():
    cases = [case(model=model, seed=seed) for model in ("lstm", "ntm") for seed in range(5)]
    parts = [part_of_runs(cases, Shard(number, 3)) for number in (1, 2, 3)]
    assert sorted(run.run_id for part in parts for run in part) == sorted(run.run_id for run in cases)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert part_of_runs(cases, None) == cases


def test_larger_runs_take_longer():
    assert seconds_of(case(seconds=60.0, sequences=None)) == pytest.approx(63)
    assert seconds_of(case(sequences=10**9, seconds=60.0)) == pytest.approx(63)
    assert seconds_of(case(sequences=2000)) > seconds_of(case())
    assert seconds_of(case(model="ntm", slots=2**20)) > seconds_of(case(model="ntm", slots=64))
    assert seconds_of(case(levels=(1, 20))) > seconds_of(case())
    assert seconds_of(case(model="ntm", kernels="torch")) > seconds_of(case(model="ntm", kernels="native"))


@pytest.mark.parametrize("model", ["my_module:MyModel", "sam"])
def test_what_a_host_may_lack_does_not_count(model):
    assert seconds_of(case(model=model, index="kd-forest")) == seconds_of(case(model=model))
