"""What is run for a case."""

import subprocess
import sys

import pytest
import torch

from mann_bench.data import registry
from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.measure.predict import predicted_bytes
from mann_bench.measure.workload import ModelWorkload, Workload
from mann_bench.run.replies import Failure, Prepared
from mann_bench.run.worker import Worker, answer


@pytest.mark.parametrize("model", ["lstm", "ntm", "dam", "dnc", "sam", "sdnc"])
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_passes_can_be_repeated(model, mode):
    workload = ModelWorkload(Case(suite="s", model=model, slots=16, steps=6, mode=mode))
    workload.smoke_test()
    for _ in range(3):
        workload.run_pass()
        grads = [p.grad for p in workload.model.parameters()]
        assert all((g is not None) == (mode == "train") for g in grads)
        workload.clear()


def test_same_case_same_numbers():
    case = Case(suite="s", model="sam", slots=16, steps=6)
    (a, _), (b, _) = ModelWorkload(case).forward(), ModelWorkload(case).forward()
    assert torch.equal(a, b)


def test_inputs_are_task_sequences():
    workload = ModelWorkload(Case(suite="s", model="lstm", slots=16, steps=12, batch=3))
    assert workload.inputs.any(dim=-1).sum() == 33
    assert workload.mask.sum() == 3
    assert 0.3 < float(workload.loss(workload.forward()[0]).detach()) < 1.5


@pytest.mark.parametrize(
    ("returned", "message"),
    [(lambda x, s: x, r"return \(y, state\), got Tensor"), (lambda x, s: (x, s), r"shape \[T, B, Y\] = \[1, 1, 8\], got \[1, 1, 10\]")],
)
def test_wrong_return_values_are_reported(monkeypatch, returned, message):
    workload = ModelWorkload(Case(suite="s", model="lstm", slots=16))
    monkeypatch.setattr(workload, "model", returned)
    with pytest.raises((TypeError, ValueError), match=message):
        workload.smoke_test()


class Doubling(Workload):
    """A workload of another kind: what it needs to go through gate, memory pass and results."""

    factor = 2.0

    def __init__(self, case):
        super().__init__(case)
        self.numbers = torch.arange(float(case.slots)).requires_grad_()

    @classmethod
    def names(cls):
        return ["double"]

    @classmethod
    def predicted_bytes(cls, case):
        return {"state": 4 * case.slots}

    @property
    def backend(self):
        return {"kernels": self.case.kernels, "index": self.case.index}

    def parameters(self):
        return {"numbers": self.numbers}

    def forward(self, steps=None):
        return self.numbers * (self.factor if self.case.kernels == "native" else 2.0), None

    def backward(self, y):
        y.sum().backward()

    def clear(self):
        self.numbers.grad = None

    def recall(self):
        return 0.5


def test_another_kind_goes_through_the_same_worker(monkeypatch):
    monkeypatch.setitem(registry.KINDS, "op", f"{__name__}:Doubling")
    monkeypatch.setattr("mann_bench.run.worker.limit_memory", lambda device, size: None)
    case = Case(suite="s", model="op:double", kernels="native", slots=300)
    command = {"do": "prepare", "case": case.model_dump(), "memory_bytes": 2**30, "warmup_s": 0.01}
    reply = answer(Worker(), dict(command))
    assert isinstance(reply, Prepared)
    assert reply.backend.kernels == "native"
    assert reply.recall == 0.5
    assert reply.check is not None
    assert reply.check.ok
    assert reply.memory.ledger["parameters"] == 1200
    assert predicted_bytes(case) == {"state": 1200}
    monkeypatch.setattr(Doubling, "factor", 3.0)
    reply = answer(Worker(), dict(command))
    assert isinstance(reply, Failure)
    assert reply.status == "unverified"
    assert "kernels=torch" in reply.reason
    with pytest.raises(UsageError, match="op: expected one of double, got 'duoble'; did you mean 'double'"):
        registry.find_model("op:duoble")


COUNT_COMPILATIONS = """
import functools, torch
from mann_bench.data.case import Case
from mann_bench.measure.memory import measure_pass
from mann_bench.measure.workload import ModelWorkload

torch.compile = functools.partial(torch.compile, backend="eager")
workload = ModelWorkload(Case(suite="s", model="ntm", variant="compiled", slots=8, steps=3))
workload.smoke_test()
workload.run_pass()
measure_pass(workload)
print(torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""


def test_a_compiled_step_is_compiled_for_what_a_case_needs_and_no_more():
    """Once for a memory without autograd history (the first step), once for one with history; not again for inference or under a profiler.

    In a process of its own: what the compiler remembers of other tests changes its count.
    """
    done = subprocess.run([sys.executable, "-c", COUNT_COMPILATIONS], capture_output=True, text=True, timeout=300)
    assert done.stdout == "2\n", done.stderr
