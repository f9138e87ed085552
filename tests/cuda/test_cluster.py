"""Clusters of blocks on the GPU: what one block computes, and what the CPU does; where they do not fit, one block runs."""

import copy

import pytest
import torch

from mann_bench.kernels.native import driver
from mann_bench.kernels.native.clocks import clocked
from mann_bench.kernels.sequence import cluster
from mann_bench.models import SAM
from tests.cuda.passes import assert_alike, run_pass
from tests.cuda.test_sequence import SHAPES, VARIANTS, make

FITTING = ["all-one", "primes", "many-heads", "long"]  # also in float64


@pytest.fixture(autouse=True)
def launched(gpu, monkeypatch):
    """The kernels launched. Clusters are asked for; skips on a card that has none."""
    if torch.cuda.get_device_capability(gpu) < (9, 0):
        pytest.skip(f"{torch.cuda.get_device_name(gpu)} has no clusters of blocks")
    names: list[str] = []
    launch = driver.launch

    def listed(entry, *others):
        names.append(entry)
        launch(entry, *others)

    monkeypatch.setattr(driver, "launch", listed)
    monkeypatch.setenv(cluster.VARIABLE, "4")
    return names


def assert_in_clusters(launched):
    assert {"mb_forward_cluster", "mb_backward_cluster"} <= set(launched)
    assert not {"mb_forward", "mb_backward"} & set(launched)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", FITTING)
def test_as_on_the_cpu(shape, variant, gpu, launched):
    batch, steps = SHAPES[shape][-2:]
    model = make(*VARIANTS[variant], SHAPES[shape])
    expected = run_pass(copy.deepcopy(model), "cpu", batch, steps)
    assert_alike(expected, run_pass(model, gpu, batch, steps), 1e-9)
    assert_in_clusters(launched)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "sam-lsh"])  # there rounding decides what is read
def test_as_one_block(variant, gpu, launched, monkeypatch):
    """At the paper's sizes, which fit in float32."""
    model = make(*VARIANTS[variant], SHAPES["paper"], torch.float32)
    found = run_pass(model, gpu, 8, 25)
    assert_in_clusters(launched)
    monkeypatch.delenv(cluster.VARIABLE)
    assert_alike(run_pass(model, gpu, 8, 25), found, 1e-3)


def test_one_block_runs_where_a_batch_is_too_large(gpu, launched):
    batch = torch.cuda.get_device_properties(gpu).multi_processor_count // 4 + 1
    run_pass(make(SAM, {}, SHAPES["all-one"], torch.float32), gpu, batch, 2)
    assert not any(name.endswith(driver.CLUSTER) for name in launched)


def test_phases_are_timed(gpu, launched):
    with clocked() as clocks:
        run_pass(make(SAM, {"index": "lsh"}, SHAPES["paper"], torch.float32), gpu, 2, 25)
    spent = clocks.spent_ns(abreast=2)
    assert {("forward", "controller"), ("forward", "search"), ("backward", "controller"), ("backward", "rollback")} <= set(spent)
    assert_in_clusters(launched)
