"""faiss on a GPU: the contract of every index, with a fake that computes on the CPU; without the fake, the reason why it cannot run."""

import importlib
import inspect
import sys
from types import ModuleType

import pytest
import torch

from mann_bench.data.case import Case
from mann_bench.data.suite import Budget
from mann_bench.doctor.examine import examine
from mann_bench.kernels.index import Exact, Unavailable, faiss_gpu, make_index, rebuilt
from mann_bench.kernels.reference import row_norms
from mann_bench.measure.predict import predict
from mann_bench.models import SAM
from mann_bench.run.replies import Failure
from mann_bench.run.runner import StoppedCurves, precheck
from tests.kernels import test_index
from tests.kernels.test_index import SIZES, Rows
from tests.support import fake_faiss

NAMES = ["faiss-gpu-exact", "faiss-gpu-ivf"]
CONTRACT = [
    test_index.test_finds_rows_follows_writes_and_undoes_them,
    lambda name: test_index.test_sam_equals_autograd_through_dense_copies(name, "empty"),
    lambda name: test_index.test_sam_equals_autograd_through_dense_copies(name, "full"),
    test_index.test_as_workloads_of_the_suite,
]


@pytest.fixture
def on_cpu(monkeypatch):
    """The fake stands in for faiss and accepts rows on the CPU."""
    monkeypatch.setitem(sys.modules, "faiss", fake_faiss)
    for name in ("faiss.contrib", "faiss.contrib.torch_utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(faiss_gpu, "faiss_gpu_missing", lambda device: None)
    faiss_gpu.resources.cache_clear()
    yield
    faiss_gpu.resources.cache_clear()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", CONTRACT)
def test_keeps_the_contract_of_every_index(check, name, on_cpu):
    check(name)


@pytest.mark.parametrize("name", NAMES)
def test_state_is_sliced_and_saved_with_its_index(name, on_cpu, tmp_path):
    test_index.test_state_is_sliced_and_saved_with_its_index(name, tmp_path)


def test_ivf_is_rebuilt(on_cpu, monkeypatch):
    test_index.test_a_library_without_updates_is_rebuilt("faiss-gpu-ivf", monkeypatch)


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("batch", "slots", "candidates", "reads"), [(1, 1, 1, 1), (3, 101, 101, 4), (3, 101, 37, 5), (2, 7, 3, 5), (2, 7, 0, 2)]
)
def test_exact_finds_what_a_scan_finds_after_writes_and_rollbacks(on_cpu, batch, slots, candidates, reads, storage):
    index, scan, rows = make_index("faiss-gpu-exact"), Exact(), Rows.random(batch, slots, 13, candidates)
    rows.memory = (rows.memory * torch.rand(batch, slots, 1) * 100).to(storage)  # of any length: what counts is the angle
    rows.norms = row_norms(rows.memory.float())
    index.build(rows)
    start = index.tensors()[0].clone()
    queries = 9 * torch.randn(batch, 6, 13)

    def same():
        assert torch.equal(index.query(rows, queries, reads), scan.query(rows, queries, reads))

    same()
    old, swaps = rows.memory.clone(), []
    for _ in range(3):
        written = torch.randint(-1, slots, (batch, 9))
        element = torch.arange(batch)[:, None].expand_as(written)[written >= 0]
        rows.memory[element, written[written >= 0]] = torch.randn(len(element), 13).to(storage)
        rows.norms = row_norms(rows.memory.float())
        swaps.append(index.update(rows, written))
        same()
    rows.memory, rows.norms = old, row_norms(old.float())
    for swap in reversed(swaps):
        assert swap is not None
        swap.toggle()
    assert torch.equal(index.tensors()[0], start)
    same()


@pytest.mark.parametrize("name", NAMES)
def test_rollback_of_a_pass_leaves_the_index_as_it_was(name, on_cpu):
    model = SAM(**SIZES, slots=61, heads=2, reads=3, index=name)
    state = model.initial_state(2, fill="full")
    index = state.memory.rows.index
    before = [t.clone() for t in index.tensors()]
    y, _ = model(torch.randn(20, 2, 5), state)
    y.sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(before, index.tensors(), strict=True))
    assert not getattr(index, "changes", {})


def test_one_handle_takes_a_fixed_part_of_the_device(on_cpu):
    rows = Rows.random(1, 5, 4, 5)
    for name in NAMES:
        index = make_index(name)
        index.build(rows)
        assert index.outside_bytes(rows) >= faiss_gpu.TEMPORARY_BYTES
    assert faiss_gpu.resources() is faiss_gpu.resources()
    assert (faiss_gpu.resources().temporary_bytes, faiss_gpu.resources().pinned_bytes) == (faiss_gpu.TEMPORARY_BYTES, 0)


def test_the_stand_in_is_called_as_faiss_is():
    real = inspect.signature(pytest.importorskip("faiss").knn_gpu).parameters
    ours = inspect.signature(fake_faiss.knn_gpu).parameters
    assert list(ours) == list(real)[: len(ours)]


@pytest.mark.parametrize("name", NAMES)
def test_on_the_cpu_it_is_unavailable(name):
    with pytest.raises(Unavailable, match="faiss-gpu searches rows on a GPU: expected device cuda, got cpu"):
        make_index(name)
    for model in ("sam", "index:query"):
        case = Case(suite="s", model=model, index=name, slots=64)
        assert precheck(case, Budget(), StoppedCurves([])) == Failure(status="unavailable", reason=str(faiss_gpu.faiss_gpu_missing("cpu")))
        assert predict(case, Budget()).total_bytes is None


def test_bytes_on_a_gpu_are_predicted_without_one():
    sizes = [predict(Case(suite="s", model="index:query", index="lsh", slots=2000, device=device), Budget()) for device in ("cpu", "cuda")]
    assert sizes[0].total_bytes == sizes[1].total_bytes


def test_what_is_missing_on_a_gpu_is_reported(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "needs an NVIDIA GPU" in str(faiss_gpu.faiss_gpu_missing("cuda"))
    assert [(found.state, found.detail) for found in examine() if found.part == "faiss on a gpu"] == [
        ("missing", faiss_gpu.faiss_gpu_missing("cuda"))
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(rebuilt.importlib.util, "find_spec", lambda name: None)
    assert "pip install faiss-gpu" in str(faiss_gpu.faiss_gpu_missing("cuda:1"))
    monkeypatch.setattr(rebuilt.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "faiss", ModuleType("faiss"))
    assert "built without GPU" in str(faiss_gpu.faiss_gpu_missing("cuda"))

    def fails(name):
        raise RuntimeError("faiss-gpu installed but nvidia-cublas-cu12 is missing")

    monkeypatch.setattr(importlib, "import_module", fails)
    assert "nvidia-cublas-cu12 is missing" in str(faiss_gpu.faiss_gpu_missing("cuda"))
