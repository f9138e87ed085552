"""Memory of tensors whose sizes are known beforehand."""

import pytest
import torch
from torch import Tensor, nn

from mann_bench.case import Case
from mann_bench.memory import bytes_of, held_tensors, measure_memory, measure_pass
from mann_bench.workload import ModelWorkload

MIB = 2**20


class Hoarder(nn.Module):
    """Keeps 1 MiB a step for backward, needs 4 MiB for a moment in each, and has 8 bytes of parameters."""

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.output_size = output_size

    def forward(self, x: Tensor, state: None) -> tuple[Tensor, None]:
        total = x.new_zeros(())
        for x_t in x:
            block = torch.ones(MIB // 4) * float(x_t.sum())
            total = total + (block * self.weight[0]).sum()  # autograd keeps `block`
            torch.ones(MIB)  # 4 MiB, freed at once
        return total.expand(*x.shape[:2], self.output_size).clone(), None


@pytest.fixture
def hoarder(monkeypatch):
    monkeypatch.setattr("mann_bench.registry.ModelEntry.build", lambda self, case: Hoarder(case.output_size))
    return lambda mode="train", steps=8: ModelWorkload(Case(suite="s", model="lstm", slots=4, steps=steps, mode=mode))


def test_known_bytes_are_found(hoarder):
    memory = measure_memory(hoarder())
    assert memory.bytes_per_step == pytest.approx(MIB, rel=0.01)
    assert memory.tape_bytes == pytest.approx(8 * MIB, rel=0.01)
    assert memory.peak_bytes == pytest.approx(12 * MIB, rel=0.1)
    assert memory.start_bytes == 8
    assert memory.ledger["parameters"] == 8
    assert memory.rss_peak_bytes > 12 * MIB


def test_inference_keeps_nothing(hoarder):
    memory = measure_memory(hoarder("infer"))
    assert memory.bytes_per_step == pytest.approx(0, abs=100)
    assert memory.peak_bytes == pytest.approx(5 * MIB, rel=0.1)
    assert memory.ledger["tape"] == 0


def test_a_single_step(hoarder):
    assert measure_memory(hoarder(steps=1)).bytes_per_step == pytest.approx(MIB, rel=0.01)
    assert measure_pass(hoarder(), 3).tape_bytes == pytest.approx(3 * MIB, rel=0.01)


def test_held_tensors_finds_all_and_counts_storages_once():
    shared = torch.zeros(10)
    assert bytes_of(held_tensors({"a": [shared, shared[2:]], "b": (torch.zeros(5), 3)})) == 60


@pytest.mark.parametrize("model", ["lstm", "ntm", "dam", "dnc", "sam", "sdnc"])
def test_prediction_is_near_the_measurement(model):
    workload = ModelWorkload(Case(suite="s", model=model, slots=2048, steps=32))
    predicted = workload.model.memory_bytes(1, 32, "train")
    measured = measure_memory(workload)
    assert predicted["state"] == pytest.approx(measured.state_bytes, rel=0.05)
    assert predicted["tape"] == pytest.approx(measured.bytes_per_step * 32, rel=0.35)
