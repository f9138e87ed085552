"""How a worker process limits its memory before it measures."""

from types import SimpleNamespace

import pytest
import torch

from mann_bench.run.worker import limit_memory


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_the_budget_limits_a_gpu_named_with_or_without_its_number(name, index, monkeypatch):
    """torch's function refuses a device without a number; only the calls below it are faked."""
    limits = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80 * 2**30))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch._C, "_cuda_setMemoryFraction", lambda fraction, device: limits.append((fraction, device)), raising=False)
    limit_memory(name, 20 * 2**30)
    assert limits == [(0.25, index)]
