"""How a worker process limits its memory before it measures, and what it says of a workload."""

from types import SimpleNamespace

import pytest
import torch

from mann_bench.data.case import Case
from mann_bench.models import SAM
from mann_bench.run.replies import Prepared
from mann_bench.run.worker import Worker, limit_memory


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


def test_what_a_model_says_of_its_run_is_a_warning(monkeypatch):
    case, worker = Case(suite="s", model="sam", slots=64, steps=2, batch=3), Worker()
    monkeypatch.setattr(worker, "_begin", lambda *_: case)
    monkeypatch.setattr(SAM, "remarks", lambda self, batch: [f"a cluster steps each of {batch}"])
    prepared = worker.prepare({}, memory_bytes=2**30, warmup_s=0.01)
    assert isinstance(prepared, Prepared)
    assert prepared.warnings[0] == "a cluster steps each of 3"
