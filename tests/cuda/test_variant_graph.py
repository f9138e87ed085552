"""Passes replayed from a CUDA graph: equal to plain ones to the bit; what the host does; what the graph holds; through the worker."""

import pytest
import torch
from torch.profiler import ProfilerActivity

from mann_bench.data.case import Case
from mann_bench.measure.graph import GraphWorkload
from mann_bench.measure.memory import build_recorded, measure_pass
from mann_bench.measure.workload import ModelWorkload
from mann_bench.run.replies import Prepared
from mann_bench.run.worker import Worker, answer
from tests.support.gpu import no_wait, profiled_names
from tests.support.graphs import assert_replays_are_plain_passes

DENSE = ("lstm", "ntm", "dam", "dnc")
PASSES = [*((model, "exact", mode) for mode in ("train", "infer") for model in DENSE)]
PASSES += [(model, index, "train") for model in ("sam", "sdnc") for index in ("exact", "lsh")]


def case(model, variant="graph", **fields):
    return Case(**{"suite": "s", "model": model, "variant": variant, "slots": 256, "device": "cuda", **fields})


def plain(captured):
    return ModelWorkload(captured.case.model_copy(update={"variant": "plain"}))


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(("model", "index", "mode"), PASSES)
def test_a_replay_is_a_plain_pass_to_the_bit(model, index, mode, batch, steps, gpu):
    captured = GraphWorkload(case(model, index=index, mode=mode, batch=batch, steps=steps))
    rounding = 1e-6 if model == "lstm" else 0.0  # cuDNN promises no order of its sums
    assert_replays_are_plain_passes(captured, plain(captured), rounding)


def test_many_blocks_search_one_element(gpu):
    """Two launches a step, whose number depends on the sizes, are in the graph too."""
    captured = GraphWorkload(case("sam", slots=40_000, steps=10))
    assert_replays_are_plain_passes(captured, plain(captured))


@pytest.mark.parametrize("model", DENSE)
def test_a_dense_pass_has_no_wait_and_draws_no_random_numbers(model, gpu):
    workload = ModelWorkload(case(model, "plain", batch=8))
    for _ in range(2):
        workload.run_pass()
        workload.clear()
    before = torch.cuda.get_rng_state(gpu)
    with no_wait():
        workload.run_pass()
    assert torch.equal(torch.cuda.get_rng_state(gpu), before)


@pytest.mark.parametrize("model", ["ntm", "sam"])
def test_a_replay_is_one_launch(model, gpu):
    workload = GraphWorkload(case(model, batch=8))
    workload.run_pass()
    torch.cuda.synchronize()
    with no_wait():
        workload.run_pass()
    names = profiled_names(workload.run_pass, [ProfilerActivity.CPU, ProfilerActivity.CUDA])
    assert sum(name.startswith("cudaGraphLaunch") for name in names) == 1
    assert not [name for name in names if name.startswith(("cudaLaunchKernel", "cuLaunchKernel", "aten::"))]


@pytest.mark.parametrize("mode", ["train", "infer"])
def test_the_pool_of_a_graph_holds_what_a_plain_pass_takes(mode, gpu):
    """So the ledger, which is of plain passes, counts it. Blocks of a pool are rounded up to 2 MiB and more."""
    workload, hidden_bytes = build_recorded("cuda", lambda: GraphWorkload(case("ntm", slots=2**16, batch=8, mode=mode)))
    workload.run_pass()
    workload.release()
    plain_bytes = measure_pass(workload, hidden_bytes=hidden_bytes).pass_bytes
    workload.run_pass()
    assert workload.captured is not None
    pool = workload.captured.graph.pool()
    pool_bytes = sum(part["total_size"] for part in torch.cuda.memory_snapshot() if tuple(part["segment_pool_id"]) == tuple(pool))
    assert 0.9 * plain_bytes < pool_bytes < 1.25 * plain_bytes + 2**26
    workload.release()
    assert not [part for part in torch.cuda.memory_snapshot() if tuple(part["segment_pool_id"]) == tuple(pool)]


@pytest.mark.parametrize(("model", "mode"), [("ntm", "train"), ("ntm", "infer"), ("dnc", "train"), ("sam", "train")])
def test_through_the_worker(model, mode, gpu, monkeypatch):
    monkeypatch.setattr("mann_bench.run.worker.limit_memory", lambda device, size: None)
    worker, fields = Worker(), case(model, mode=mode, batch=8).model_dump()
    reply = answer(worker, {"do": "prepare", "case": fields, "memory_bytes": 2**34, "warmup_s": 0.2})
    assert isinstance(reply, Prepared), reply
    assert reply.check is not None
    assert reply.check.ok
    assert [text for text in reply.warnings if "output" in text or "inputs" in text] == []
    timed = worker.round(0.2, 0.05, flush=False)
    assert len(timed.passes) > 1
