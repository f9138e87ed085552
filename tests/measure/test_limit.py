"""The memory limit of a measuring process. Each test uses a process of its own, because a limit cannot be lifted."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from mann_bench.measure.limit import beside_the_limit, limit_data
MIB = 2**20
if sys.argv[1] == "hard":
    held = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmData"))) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (held + 100 * MIB, held + 100 * MIB))
print(limit_data(200 * MIB))
def fits(mib):
    try:
        bytearray(mib * MIB)
    except MemoryError:
        return False
    return True
print(fits(50), fits(150), fits(300))
with beside_the_limit():
    kept = bytearray(300 * MIB) if fits(300) else None
    print(fits(500))
print(fits(50), fits(150), fits(300))
"""


def run(*arguments):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts all memory on Linux only")
def test_memory_beside_the_limit_does_not_count_then_or_later():
    assert run("free") == ["None", "True True False", "True", "True True False"]


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts all memory on Linux only")
def test_a_smaller_limit_that_was_there_stays_and_is_reported():
    message, before, beside, after = run("hard")
    assert "a limit that was there before (ulimit -d) leaves" in message
    assert message.endswith("of the budget of 200 MiB")
    assert before == after == "True False False"
    assert beside == "False"
