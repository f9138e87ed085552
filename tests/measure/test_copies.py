"""Copies of memory: their rate, and that they need room."""

import pytest
import torch

from mann_bench.data.case import Case
from mann_bench.measure import copies
from mann_bench.measure.device import Cpu, PassTime
from mann_bench.measure.workload import make_workload
from tests.support.fakes import FakeClock


class Slow(Cpu):
    """A device on which every pass takes 2 ms."""

    def __init__(self):
        self.now = FakeClock()
        super().__init__(self.now)
        self.passes = 0

    def time(self, one_pass):
        one_pass()
        self.passes += 1
        self.now.now += 0.002
        return PassTime(2.0)


def test_a_rate_counts_what_is_read_and_written():
    device = Slow()
    assert copies.copy_rates(device, 10_000, 0.01) == pytest.approx([1e7] * 5)
    assert device.passes == 6  # the first is not counted
    assert len(copies.copy_rates(Slow(), 10_000, 0.0)) == copies.FEWEST_COPIES


def test_without_room_there_is_no_rate(monkeypatch):
    def full(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: not enough memory")

    monkeypatch.setattr(torch, "empty", full)
    assert copies.copy_rates(Slow(), 10_000, 0.01) == []


def test_only_dense_models_on_a_cpu_have_a_floor():
    floors = [make_workload(Case(suite="s", model=model, slots=64, steps=5)).floor() for model in ("ntm", "sam", "lstm")]
    assert floors[0] is not None
    assert floors[0].matrix_bytes == 64 * 32 * 4
    assert floors[0].fits_cache
    assert floors[1:] == [None, None]
