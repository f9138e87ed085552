"""Clusters of blocks on the GPU: what one block computes, and what the CPU does; where not all fit at once, one block runs."""

import copy

import pytest
import torch

from mann_bench.data.case import Case
from mann_bench.kernels.native import cubin, driver
from mann_bench.kernels.native.clocks import clocked
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.sequence import cluster
from mann_bench.measure.graph import GraphWorkload
from mann_bench.measure.workload import ModelWorkload
from mann_bench.models import SAM
from mann_bench.models.sparse import native
from tests.cuda.passes import assert_alike, run_pass
from tests.cuda.test_sequence import SHAPES, VARIANTS, make
from tests.support.gpu import no_wait
from tests.support.graphs import assert_replays_are_plain_passes

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
    monkeypatch.setenv(cluster.VARIABLE, "0")
    assert_alike(run_pass(model, gpu, 8, 25), found, 1e-3)


def test_the_largest_batch_whose_clusters_all_run_at_once(gpu, launched):
    """One more element, and one block steps each."""
    model = make(SAM, {}, SHAPES["paper"], torch.float32)
    most = cluster.room(Build(), native.model_sizes(model, steps=2, batch=1, taped=True), gpu).elements
    assert 1 < most <= torch.cuda.get_device_properties(gpu).multi_processor_count // cubin.CLUSTER_BLOCKS  # a block a multiprocessor
    run_pass(model, gpu, most, 2)
    assert_in_clusters(launched)
    launched.clear()
    run_pass(model, gpu, most + 1, 2)
    assert not any(name.endswith(driver.CLUSTER) for name in launched)


@pytest.mark.parametrize(("batch", "in_clusters"), [(2, True), (200, False)])
def test_clusters_run_unasked_where_they_pay(batch, in_clusters, gpu, launched, monkeypatch):
    monkeypatch.delenv(cluster.VARIABLE)
    model = make(SAM, {}, SHAPES["paper"], torch.float32)
    run_pass(model, gpu, batch, 3)
    ran = {"mb_forward", "mb_backward", "mb_forward_cluster", "mb_backward_cluster"} & set(launched)
    assert ran == ({"mb_forward_cluster", "mb_backward_cluster"} if in_clusters else {"mb_forward", "mb_backward"})
    assert model.remarks(batch) == []


@pytest.mark.parametrize("model", ["sam", "sdnc"])
def test_a_graph_replays_clusters(model, gpu, launched, monkeypatch):
    """To the bit. The driver was asked before the capture."""
    monkeypatch.delenv(cluster.VARIABLE)
    case = Case(suite="s", model=model, variant="graph", index="lsh", slots=256, batch=2, device="cuda")
    captured = GraphWorkload(case)
    assert_replays_are_plain_passes(captured, ModelWorkload(case.model_copy(update={"variant": "plain"})))
    assert_in_clusters(launched)


def test_the_host_does_not_wait(gpu, launched, monkeypatch):
    monkeypatch.delenv(cluster.VARIABLE)
    model = make(SAM, {}, SHAPES["paper"], torch.float32).to(gpu)
    state, x = model.initial_state(4, fill="full"), torch.randn(12, 4, 3, device=gpu)
    for _ in range(3):
        model(x, state)[0].sum().backward()
    with no_wait():
        model(x, state)[0].sum().backward()
    assert_in_clusters(launched)


def test_phases_are_timed(gpu, launched):
    with clocked() as clocks:
        run_pass(make(SAM, {"index": "lsh"}, SHAPES["paper"], torch.float32), gpu, 2, 25)
    spent = clocks.spent_ns(abreast=2)
    assert {("forward", "controller"), ("forward", "search"), ("backward", "controller"), ("backward", "rollback")} <= set(spent)
    assert_in_clusters(launched)
