"""Processes are held to the processors they were given, however many threads they start."""

import os
import subprocess
import sys

import pytest

from mann_bench.machine import cpus

BOMB = """
import hashlib, os, sys, threading, time
from mann_bench.machine.cpus import pin_to_cpus
pin_to_cpus(int(sys.argv[1]))
block, until = bytes(10**6), time.monotonic() + 0.3
def work():
    while time.monotonic() < until:
        hashlib.sha256(block)  # works without the interpreter's lock
many = [threading.Thread(target=work) for _ in range(50)]
began = time.monotonic()
for thread in many: thread.start()
for thread in many: thread.join()
print(time.process_time() / (time.monotonic() - began), os.popen("nproc").read())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes")
def test_a_bomb_of_threads_and_its_children_stay_on_one_processor():
    out = subprocess.run([sys.executable, "-c", BOMB, "1"], capture_output=True, text=True, timeout=60, check=True)
    processors_used, of_a_child = out.stdout.split()
    assert float(processors_used) < 1.3  # 50 free threads would keep all of them busy
    assert of_a_child == "1"


def test_cores_before_siblings_and_processor_0_last(monkeypatch):
    monkeypatch.setattr(cpus, "siblings", lambda cpu: f"{cpu // 2}")  # 0,1 share a core, 2,3 share one, ...
    assert cpus.pick_cpus(range(8), 1) == [1]
    assert cpus.pick_cpus(range(8), 3) == [1, 2, 4]
    assert cpus.pick_cpus(range(8), 5) == [1, 2, 3, 4, 6]
    assert cpus.pick_cpus(range(8), 99) == list(range(8))
    assert cpus.pick_cpus([0], 1) == [0]
