"""Passes replayed from a CUDA graph, by a stand-in for `torch.cuda` that captures and replays on the CPU."""

import functools

import pytest
import torch
from torch.profiler import ProfilerActivity

from mann_bench.data.case import Case
from mann_bench.data.suite import Budget
from mann_bench.kernels.index import Unavailable
from mann_bench.kernels.native import build
from mann_bench.measure import graph as graph_module
from mann_bench.measure.gate import check_workload
from mann_bench.measure.graph import CapturedPass, GraphWorkload, why_no_graph
from mann_bench.measure.memory import measure_memory
from mann_bench.measure.workload import ModelWorkload, make_workload
from mann_bench.models import addressing
from mann_bench.models.state import MANNState
from mann_bench.run.replies import Prepared
from mann_bench.run.runner import StoppedCurves, precheck
from mann_bench.run.worker import Worker, answer
from tests.support.gpu import profiled_names
from tests.support.graphs import FakeGraphs, assert_replays_are_plain_passes

DENSE, SPARSE = ("lstm", "ntm", "dam", "dnc"), ("sam", "sdnc")
PASSES = [(model, mode) for mode in ("train", "infer") for model in (*DENSE, *SPARSE) if mode == "train" or model in DENSE]


def one_hot(rows, count):
    return torch.zeros(*rows.shape, count, dtype=torch.int64).scatter_(-1, rows.unsqueeze(-1), 1)


def product_over_heads(factors):
    return functools.reduce(torch.mul, factors.unbind(1))


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Two functions that look at values on a CPU, and do not on a GPU."""
    monkeypatch.setattr("torch.nn.functional.one_hot", one_hot)
    monkeypatch.setattr(addressing, "product_over_heads", product_over_heads)


@pytest.fixture
def graphs(monkeypatch, as_on_a_gpu):
    """The stand-in, with which cases for the CPU have graphs, too."""
    fake = FakeGraphs()
    monkeypatch.setattr(GraphWorkload, "cuda", fake)
    monkeypatch.setattr(graph_module, "why_no_graph", lambda case: None)
    return fake


def case(model="ntm", **fields):
    if model in SPARSE and build.why_not():
        pytest.skip(str(build.why_not()))
    kernels = "torch" if model in DENSE else "auto"  # as on a GPU
    return Case(
        **{
            "suite": "s",
            "model": model,
            "variant": "graph",
            "kernels": kernels,
            "slots": 24,
            "word_size": 5,
            "hidden": 9,
            "steps": 4,
            **fields,
        }
    )


def plain(graph_case):
    return ModelWorkload(graph_case.model_copy(update={"variant": "plain"}))


def test_warm_up_then_capture_then_replays(graphs, monkeypatch):
    real = GraphWorkload.plain_pass

    def plain_pass(self):
        graphs.calls.append("pass")
        return real(self)

    monkeypatch.setattr(GraphWorkload, "plain_pass", plain_pass)
    workload = GraphWorkload(case())
    warm_up = ["empty cache", "side waits for main", "onto side", "pass", "pass", "off side", "main waits for side"]
    capture = ["capture on side", "pass", "captured"]
    workload.run_pass()
    assert graphs.calls == [*warm_up, *capture, "replay"]
    workload.run_pass()
    assert graphs.calls[len([*warm_up, *capture]) :] == ["replay", "replay"]


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (3, 4)])
@pytest.mark.parametrize(("model", "mode"), PASSES)
def test_a_replay_is_a_plain_pass_to_the_bit(model, mode, batch, steps, graphs):
    captured = GraphWorkload(case(model, mode=mode, batch=batch, steps=steps))
    other = plain(captured.case)
    assert_replays_are_plain_passes(captured, other)
    assert graphs.calls.count("captured") == 1
    if model in SPARSE:
        assert isinstance(other.state, MANNState)
        assert isinstance(captured.state, MANNState)
        for expected, got in zip(other.state.tensors(), captured.state.tensors(), strict=True):
            if expected is not other.state.memory.rows.ring.queue:  # beyond its end there is what passes have left
                assert torch.equal(expected, got)


@pytest.mark.parametrize(("model", "mode"), PASSES)
def test_the_gate_lets_a_faithful_graph_through(model, mode, graphs):
    check = check_workload(GraphWorkload(case(model, mode=mode)))
    assert check is not None
    assert check.ok
    assert check.compared_with == f"{model}, kernels=torch, index=exact"
    assert graphs.calls.count("replay") == 2


def no_state_back(monkeypatch):
    monkeypatch.setattr(GraphWorkload, "put_back", lambda self, after: None)


def own_inputs(monkeypatch):
    """Capture a copy of the inputs, which nobody refreshes."""
    real = GraphWorkload.capture

    def capture(self):
        inputs, self.inputs = self.inputs, self.inputs.clone()
        captured = real(self)
        self.inputs = inputs
        return captured

    monkeypatch.setattr(GraphWorkload, "capture", capture)
    monkeypatch.setattr(CapturedPass, "fits", lambda self, workload: True)


def stale_gradients(monkeypatch):
    """Capture with gradients that are there already, to which each replay adds."""

    def plain_pass(self):
        y, _ = ModelWorkload.forward(self)
        self.backward(y)
        return y.detach(), self.state

    monkeypatch.setattr(GraphWorkload, "plain_pass", plain_pass)


def gradients_freed(monkeypatch):
    """Free the gradients that replays write, between the passes."""
    monkeypatch.setattr(GraphWorkload, "clear", ModelWorkload.clear)


@pytest.mark.parametrize(
    ("fault", "model", "mode"),
    [
        *((no_state_back, model, "infer") for model in DENSE),
        (own_inputs, "ntm", "train"),
        (own_inputs, "ntm", "infer"),
        (own_inputs, "sam", "train"),
        (stale_gradients, "ntm", "train"),
        (stale_gradients, "sam", "train"),
        (gradients_freed, "ntm", "train"),
    ],
)
def test_the_gate_stops_a_graph_with_a_fault(fault, model, mode, graphs, monkeypatch):
    fault(monkeypatch)
    check = check_workload(GraphWorkload(case(model, mode=mode)))
    assert check is not None
    assert not check.ok


def longer(workload):
    workload.inputs, workload.targets, workload.mask = workload.sequences(7)
    workload.bit_weights = workload.weigh_bits(7)


def other_state(workload):
    workload.state = workload.model.initial_state(1, fill="full", seed=1)


def fewer_candidates(workload):
    workload.state.memory.rows.num_candidates = 5


@pytest.mark.parametrize(("change", "model"), [(longer, "ntm"), (other_state, "dnc"), (fewer_candidates, "sam")])
def test_changed_sizes_are_captured_anew(change, model, graphs):
    captured = GraphWorkload(case(model))
    other = plain(captured.case)
    captured.run_pass()
    for workload in (captured, other):
        change(workload)
    assert torch.equal(captured.keep_output(), other.keep_output())
    assert graphs.calls.count("captured") == 2
    captured.run_pass()
    assert graphs.calls.count("captured") == 2


def test_passes_that_never_repeat_their_sizes_are_refused(graphs):
    workload = GraphWorkload(case("dam", mode="infer", fill="empty", slots=240))
    with pytest.raises(Unavailable, match="dam-graph needs passes of equal sizes, but num_candidates goes from 0 to 16 in one; use dam"):
        workload.run_pass()


def test_a_plain_pass_drops_the_graph(graphs):
    """Inference leaves its state in other tensors then."""
    captured = GraphWorkload(case(mode="infer"))
    other = plain(captured.case)
    for workload in (captured, other):
        workload.run_pass()
        workload.forward()
    assert captured.captured is None
    assert torch.equal(captured.keep_output(), other.keep_output())
    assert graphs.calls.count("captured") == 2


def test_a_plain_pass_adds_nothing_to_the_gradients_of_a_replay(graphs):
    workload = GraphWorkload(case())
    workload.run_pass()
    replayed = {name: gradient.clone() for name, gradient in workload.gradients().items()}
    workload.backward(workload.forward()[0])
    for name, gradient in workload.gradients().items():
        assert torch.equal(gradient, replayed[name])


@pytest.mark.parametrize(("model", "mode"), [("ntm", "train"), ("ntm", "infer"), ("sam", "train")])
def test_through_the_worker(model, mode, graphs, monkeypatch):
    """Gate, first pass and warm-up capture; memory is that of plain passes, measured while there is no graph."""
    monkeypatch.setattr("mann_bench.run.worker.limit_memory", lambda device, size: None)
    graph_case, worker = case(model, mode=mode, slots=512), Worker()
    reply = answer(worker, {"do": "prepare", "case": graph_case.model_dump(), "memory_bytes": 2**30, "warmup_s": 0.01})
    assert isinstance(reply, Prepared), reply
    assert reply.check is not None
    assert reply.check.ok
    assert reply.warnings == []
    assert graphs.calls.count("captured") == 3
    other = plain(graph_case)
    other.run_pass()
    other.clear()
    expected = measure_memory(other)
    assert (reply.memory.ledger["tape"], reply.memory.bytes_per_step) == (expected.ledger["tape"], expected.bytes_per_step)
    worker.round(0.01, 0.05, flush=False)
    assert graphs.calls.count("captured") == 3


def test_memory_is_measured_without_a_graph(graphs):
    workload = GraphWorkload(case())
    workload.run_pass()
    measured = measure_memory(workload)
    assert workload.captured is None
    assert measured.leaked_bytes == 0


def test_a_wait_of_the_host_ends_a_capture(graphs, monkeypatch):
    real = addressing.row_norms
    monkeypatch.setattr(addressing, "row_norms", lambda rows: real(rows) * float(rows.abs().max() > 0))
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        GraphWorkload(case()).run_pass()


@pytest.mark.parametrize("model", [*DENSE, *SPARSE])
def test_passes_ask_nothing_of_the_device_and_draw_no_random_numbers(model, as_on_a_gpu):
    """Without the stand-in, which torch's own backwards would notice and take another way."""
    workload = plain(case(model))
    workload.run_pass()
    before = torch.get_rng_state()
    names = profiled_names(workload.run_pass, [ProfilerActivity.CPU])
    assert len(names) > 9
    assert not [name for name in names if name in ("aten::item", "aten::_local_scalar_dense", "aten::is_nonzero")]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "ntm-graph needs a CUDA device, as it replays a CUDA graph, got cpu: give --device cuda, or use ntm"),
        ({"device": "cuda", "model": "sam", "mode": "infer"}, "sam-graph needs mode train: inference moves the order"),
    ],
)
def test_what_has_no_graph_is_unavailable(fields, reason):
    refused = case(**fields)
    assert str(why_no_graph(refused)).startswith(reason)
    failure = precheck(refused, Budget(), StoppedCurves([]))
    assert failure is not None
    assert failure.status == "unavailable"
    assert failure.reason.startswith(reason)
    with pytest.raises(Unavailable, match=reason):
        make_workload(refused)


def test_torch_kernels_have_no_graph(graphs):
    with pytest.raises(Unavailable, match=r"sam-graph needs native kernels, .* \(kernels=torch was given\); use sam"):
        GraphWorkload(Case(suite="s", model="sam", variant="graph", kernels="torch", slots=64))


def test_torch_has_what_the_stand_in_stands_for():
    for name in ("device", "empty_cache", "Stream", "current_stream", "stream", "CUDAGraph", "graph"):
        assert callable(getattr(torch.cuda, name))
        assert callable(getattr(FakeGraphs(), name))
