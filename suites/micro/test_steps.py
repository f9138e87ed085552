"""Micro-benchmarks of a model's training step, with the workloads of the suites: `pytest suites/micro --benchmark-only`."""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mann_bench.data.case import Case
from mann_bench.measure.workload import make_workload

STEPS = 16  # steps of the pass that a round times: divide the times by it
MODELS = [
    ("lstm", "torch", 1024),
    *((model, kernels, slots) for model, slots in (("ntm", 1024), ("dam", 1024), ("dnc", 256)) for kernels in ("native", "torch")),
    *((model, kernels, 16384) for model in ("sam", "sdnc") for kernels in ("native", "torch")),
]


@pytest.mark.parametrize(("model", "kernels", "slots"), MODELS, ids=[f"{model}-{kernels}" for model, kernels, _ in MODELS])
def test_training_pass(benchmark: BenchmarkFixture, model: str, kernels: str, slots: int) -> None:
    """Time forward and backward over 16 steps, batch 1, one thread, full memory."""
    torch.set_num_threads(1)
    workload = make_workload(Case(suite="micro", model=model, slots=slots, steps=STEPS, kernels=kernels))
    if workload.backend["kernels"] != kernels:
        pytest.skip(getattr(workload, "fallback", None) or f"{model} has no {kernels} kernels here")
    benchmark.group = model
    benchmark.pedantic(workload.run_pass, setup=workload.clear, rounds=20, warmup_rounds=3)
