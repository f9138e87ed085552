"""Processors for measurements: their order, and that no two runs share one without a warning."""

import os
import subprocess
import sys

import pytest

from mann_bench.machine import cpus
from mann_bench.machine.cpus import ReservedCpus

MADE_UP = range(9000, 9004)  # numbers that no machine has, so that no other run is disturbed

HOLDER = """
import os, sys
from mann_bench.machine.cpus import ReservedCpus
os.sched_getaffinity = lambda process: set(map(int, sys.argv[2:]))
reserved = ReservedCpus(int(sys.argv[1]))
print(*reserved.cpus, flush=True)
sys.stdin.read()
"""


def test_cores_before_siblings_and_processor_0_last(monkeypatch):
    monkeypatch.setattr(cpus, "siblings", lambda cpu: f"{cpu // 2}")  # 0,1 share a core, 2,3 share one, ...
    assert cpus.pick_cpus(range(8), 1) == [1]
    assert cpus.pick_cpus(range(8), 3) == [1, 2, 4]
    assert cpus.pick_cpus(range(8), 5) == [1, 2, 3, 4, 6]
    assert cpus.pick_cpus(range(8), 99) == list(range(8))
    assert cpus.pick_cpus([0], 1) == [0]


@pytest.fixture
def machine(monkeypatch):
    if sys.platform != "linux":
        pytest.skip("processors are reserved on Linux only")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(MADE_UP))
    monkeypatch.setattr(cpus, "siblings", lambda cpu: f"{cpu // 2}")


def test_each_run_gets_its_own_and_a_run_without_free_ones_is_warned(machine):
    with ReservedCpus(1) as first, ReservedCpus(2) as second, ReservedCpus(2) as third, ReservedCpus(3) as fourth:
        assert (first.cpus, first.shared) == ([9000], [])
        assert (second.cpus, second.shared) == ([9001, 9002], [])
        assert (third.cpus, third.shared) == ([9000, 9003], [9000])
        assert (fourth.cpus, fourth.shared) == ([9000, 9001, 9002], [9000, 9001, 9002])
    with ReservedCpus(9) as alone:
        assert (alone.cpus, alone.shared) == (list(MADE_UP), [])


def test_more_are_taken_only_where_they_are_free(machine):
    with ReservedCpus(1) as first, ReservedCpus(1, 8) as second, ReservedCpus(1, 8) as third:
        assert (first.cpus, first.shared) == ([9000], [])
        assert (second.cpus, second.shared) == ([9001, 9002, 9003], [])
        assert (third.cpus, third.shared) == ([9000], [9000])


def test_they_are_free_when_the_process_that_held_them_is_killed(machine):
    command = [sys.executable, "-c", HOLDER, "3", *map(str, MADE_UP)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    taken = [int(word) for word in holder.stdout.readline().split()]
    with ReservedCpus(1) as mine:
        assert set(mine.cpus) == set(MADE_UP) - set(taken)
    holder.kill()
    holder.communicate()
    with ReservedCpus(4) as mine:
        assert mine.shared == []


def test_where_a_process_cannot_be_pinned_there_are_none(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    with ReservedCpus(2) as reserved:
        assert (reserved.cpus, reserved.shared) == ([], [])
