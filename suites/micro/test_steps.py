"""Micro-benchmarks of a model's steps: `pytest suites/micro --benchmark-only`."""

import functools
import operator
from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mann_bench.data.case import Case
from mann_bench.measure.workload import ModelWorkload, make_workload

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


@pytest.mark.parametrize("way", ["call", "stepper"])
@pytest.mark.parametrize(("model", "index"), [("sam", "lsh"), ("sam", "live"), ("sdnc", "lsh")])
def test_inference_step(benchmark: BenchmarkFixture, model: str, index: str, way: str) -> None:
    """Time one step without gradients, batch 1, one head, one thread, a million slots: by a call of the model, and by its stepper."""
    torch.set_num_threads(1)
    fill = "empty" if index == "live" else "full"
    case = Case(suite="micro", model=model, slots=2**20, steps=1, heads=1, index=index, mode="infer", fill=fill)
    workload = ModelWorkload(case)
    run: Callable[[], object] = workload.run_pass
    if way == "stepper":
        stepper = operator.methodcaller("stepper", workload.state)(workload.model)
        run = functools.partial(stepper, workload.inputs[0])
    benchmark.group = f"inference step, {model} {index}"
    benchmark.pedantic(run, iterations=100, rounds=20, warmup_rounds=3)
