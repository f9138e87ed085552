"""These tests need a GPU. Run them with `make gpu`, or `python -m pytest tests/cuda`."""

import pytest
import torch

from mann_bench.kernels.native import driver
from mann_bench.kernels.sequence import cluster


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """The device; skips, with the reason, where there is none or the kernels cannot be had. One block steps an element."""
    monkeypatch.setenv(cluster.VARIABLE, "0")
    reason = driver.why_not() if torch.cuda.is_available() else "no NVIDIA GPU that this torch can use"
    if reason:
        pytest.skip(reason)
    return torch.device("cuda", torch.cuda.current_device())
