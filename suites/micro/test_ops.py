"""Micro-benchmarks of each op and its twin, with the workloads of the `kernels` suite: `pytest suites/micro --benchmark-only`."""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mann_bench.data.case import Case
from mann_bench.measure.workload import make_workload
from mann_bench.suites.workloads.ops import OPS

CALLS = 16  # calls of the op in a round: divide the times by it


@pytest.mark.parametrize("kernels", ["native", "torch"])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("name", OPS)
def test_op(benchmark: BenchmarkFixture, name: str, batch: int, kernels: str) -> None:
    """Time the forward calls with 64k slots and one thread."""
    torch.set_num_threads(1)
    case = Case(suite="micro", model=f"op:{name}", slots=2**16, batch=batch, steps=CALLS, mode="infer", kernels=kernels)
    workload = make_workload(case)
    if workload.backend["kernels"] != kernels:
        pytest.skip(workload.fallback or f"op:{name} has no {kernels} kernels")
    benchmark.group = f"{name} B={batch}"
    benchmark(workload.run_pass)
