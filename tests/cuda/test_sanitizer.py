"""Small passes under NVIDIA's compute-sanitizer: no access out of range, no race in shared memory, no misused barrier."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from mann_bench.kernels.sequence import cluster
from tests.support.gpu import sanitizer_options

SANITIZER = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")


TOOLS = pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])

pytestmark = pytest.mark.skipif(SANITIZER is None, reason="compute-sanitizer is not installed")


@TOOLS
def test_clean(tool):
    assert_clean(tool)


@TOOLS
def test_clusters_are_clean(tool, gpu):
    if torch.cuda.get_device_capability(gpu) < (9, 0):
        pytest.skip(f"{torch.cuda.get_device_name(gpu)} has no clusters of blocks")
    assert_clean(tool, **{cluster.VARIABLE: "4"})


def assert_clean(tool, **variables):
    help_text = subprocess.run([str(SANITIZER), "--help"], capture_output=True, text=True, timeout=60).stdout
    command = [str(SANITIZER), "--tool", tool, *sanitizer_options(help_text), "--error-exitcode", "9", sys.executable, "-m"]
    exact = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # every tensor an allocation of its own, so that its bounds are known
    done = subprocess.run(
        [*command, "tests.cuda.passes"], capture_output=True, text=True, timeout=500, env={**os.environ, **exact, **variables}
    )
    report = (done.stdout + done.stderr)[-4000:]
    if "Device not supported" in report or "not supported on" in report:
        pytest.skip("compute-sanitizer does not support this machine")
    assert done.returncode == 0, report
    assert "done" in done.stdout
