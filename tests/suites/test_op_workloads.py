"""Op workloads: passes repeat, native ops agree with their twins, the gate sees a wrong op, and traffic is counted right."""

import pytest
import torch

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.data.labels import Labels
from mann_bench.data.registry import find_model
from mann_bench.data.suite import load_suite
from mann_bench.kernels import ops, reference
from mann_bench.kernels.native import build
from mann_bench.measure.gate import check_workload
from mann_bench.measure.memory import measure_memory
from mann_bench.measure.predict import predicted_bytes
from mann_bench.measure.workload import ModelWorkload, make_workload
from mann_bench.run.session import line
from mann_bench.suites.workloads.ops import OPS, OpWorkload
from mann_bench.suites.workloads.traffic import TRAFFIC
from tests.support.results import make_result

NATIVE = build.why_not() is None
needs_native = pytest.mark.skipif(not NATIVE, reason="no native kernels here")
names = pytest.mark.parametrize("name", OPS)


def case(name, **changes):
    return Case(**{"suite": "s", "model": f"op:{name}", "slots": 64, "steps": 5, "word_size": 8, "kernels": "native", **changes})


@names
@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("fill", ["full", "empty"])
def test_passes_repeat_and_are_measured(name, mode, fill):
    workload = make_workload(case(name, mode=mode, fill=fill, batch=2, kernels="auto", slots=640))
    assert isinstance(workload, OpWorkload)
    state = {key: value.clone() for key, value in workload.op.state.items() if key != "queue"}
    for _ in range(3):
        workload.run_pass()
        workload.clear()
    if mode == "train" and name not in ("copy", "link_read", "link_steps"):
        assert all(torch.equal(value, workload.op.state[key]) for key, value in state.items())
    memory = measure_memory(workload)
    assert memory.leaked_bytes == 0  # what calls return is the caller's
    predicted = predicted_bytes(workload.case)
    assert predicted is not None
    assert predicted["state"] / 2 <= memory.state_bytes <= 2 * predicted["state"]


@needs_native
@names
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_native_agrees_with_its_twin(name, dtype):
    workload = make_workload(case(name, dtype=dtype, slots=4096, batch=2, index="live" if name == "topk_content" else "exact"))
    check = check_workload(workload)
    if name == "copy":
        assert workload.backend["kernels"] == "torch"
        assert check is None
        return
    assert workload.backend["kernels"] == "native"
    assert check is not None
    assert check.ok


@needs_native
@pytest.mark.parametrize("name", ["topk_content", "sparse_read", "sparse_write"])
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_bfloat16_rows_are_measured(name, mode):
    workload = OpWorkload(case(name, dtype="bfloat16", mode=mode, slots=4096, batch=2))
    assert workload.op.state["memory"].dtype is torch.bfloat16
    assert workload.backend["kernels"] == "native"
    check = check_workload(workload)
    assert check is not None
    assert check.ok


@needs_native
def test_recall_of_rounded_rows_is_against_the_whole_ones():
    workload = OpWorkload(case("topk_content", dtype="bfloat16", slots=65536, steps=40, heads=4))
    recall = workload.recall()
    assert recall is not None
    assert 0.8 < recall <= 1
    workload.op.state["memory"].neg_()
    assert (workload.recall() or 0) < 0.1
    assert OpWorkload(case("topk_content")).recall() is None
    assert OpWorkload(case("sparse_read", dtype="bfloat16")).recall() is None


@needs_native
@pytest.mark.parametrize(
    ("name", "function", "wrong"),
    [
        ("topk_content", "topk_content", lambda m, n, q, k, live, *, scan_all: reference.topk_content(m, n, -q, k, live)),
        ("sparse_read", "sparse_read", lambda m, i, w: reference.sparse_read(m, i, 1.01 * w)),
        ("sparse_write", "rollback", lambda m, n, j: j),
        ("link_read", "link_read", lambda links, i, w: reference.link_read(links, i, w)[::-1]),
    ],
)
def test_the_gate_sees_a_wrong_op(name, function, wrong, monkeypatch):
    monkeypatch.setattr(ops, function, wrong)
    check = check_workload(make_workload(case(name)))
    assert check is not None
    assert not check.ok


def test_traffic():
    assert set(TRAFFIC) == set(OPS)
    moved_bytes = OpWorkload.moved_bytes
    assert moved_bytes(case("copy", batch=3)) == 2 * 3 * 64 * 8 * 4
    scanned, live = (moved_bytes(case("topk_content", fill="empty", heads=1, index=index, steps=5)) for index in ("exact", "live"))
    assert scanned - live == (64 - 5) * (8 * 4 + 4)
    assert moved_bytes(case("sparse_read", mode="train")) == 2 * moved_bytes(case("sparse_read", mode="infer"))
    assert ModelWorkload.moved_bytes(case("copy").model_copy(update={"model": "sam"})) is None


def test_the_bandwidth_is_printed_where_the_bytes_are_known():
    result = make_result("op:copy", 2**20, ms=10, word_size=32, steps=1, kernels="torch")
    assert "26.8 GB/s" in line(result, Labels([]))
    assert "GB/s" not in line(make_result("sam"), Labels([]))


def test_the_kernels_suite_has_every_op_and_the_sequences():
    suite = load_suite("kernels")
    assert {c.model for c in suite.cases} == {f"op:{name}" for name in OPS} | {"sam", "sdnc", "lstm"}
    with pytest.raises(UsageError, match="did you mean 'topk_content'"):
        find_model("op:topk_contnet")
