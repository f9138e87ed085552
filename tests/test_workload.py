"""What is run for a case."""

import pytest
import torch

from mann_bench.case import Case
from mann_bench.workload import Workload


@pytest.mark.parametrize("model", ["lstm", "ntm", "dam", "dnc", "sam", "sdnc"])
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_passes_can_be_repeated(model, mode):
    workload = Workload(Case(suite="s", model=model, slots=16, steps=6, mode=mode))
    workload.check_shape()
    for _ in range(3):
        workload.run_pass()
        grads = [p.grad for p in workload.model.parameters()]
        assert all((g is not None) == (mode == "train") for g in grads)
        workload.clear()


def test_same_case_same_numbers():
    case = Case(suite="s", model="sam", slots=16, steps=6)
    (a, _), (b, _) = Workload(case).forward(), Workload(case).forward()
    assert torch.equal(a, b)


def test_inputs_are_task_sequences():
    workload = Workload(Case(suite="s", model="lstm", slots=16, steps=12, batch=3))
    assert workload.inputs.any(dim=-1).sum() == 33
    assert workload.mask.sum() == 3
    assert 0.3 < float(workload.loss(workload.forward()[0]).detach()) < 1.5


@pytest.mark.parametrize(
    ("returned", "message"),
    [(lambda x, s: x, r"return \(y, state\), got Tensor"), (lambda x, s: (x, s), r"shape \[T, B, Y\] = \[1, 1, 8\], got \[1, 1, 10\]")],
)
def test_wrong_returns_are_told(monkeypatch, returned, message):
    workload = Workload(Case(suite="s", model="lstm", slots=16))
    monkeypatch.setattr(workload, "model", returned)
    with pytest.raises((TypeError, ValueError), match=message):
        workload.check_shape()
