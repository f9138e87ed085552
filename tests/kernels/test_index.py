"""Every index: what it finds, that it follows writes and undoes them, and that SAM and SDNC work with it."""

import dataclasses
import pickle
from typing import Any, ClassVar

import pytest
import torch

from mann_bench.data.case import Case
from mann_bench.data.suite import Budget
from mann_bench.kernels.index import INDEXES, Index, Lsh, Unavailable, choose_sizes, find_index, make_index, rebuilt, sizes_for_four
from mann_bench.kernels.reference import LshSizes, row_norms, topk_content
from mann_bench.measure.gate import check_workload
from mann_bench.measure.workload import make_workload
from mann_bench.models import SAM, SDNC
from mann_bench.run.replies import Failure
from mann_bench.run.runner import StoppedCurves, precheck
from mann_bench.suites.workloads.indexes import IndexWorkload
from tests.support.dense_sam import dense_sam

SIZES: dict[str, Any] = {"input_size": 5, "output_size": 3, "hidden": 7, "word_size": 6}
LIBRARIES = [name for name, kind in INDEXES.items() if not kind.in_sequence]


class TinyLsh(Lsh):
    """An index so small that it misses rows, drops rows from full buckets and often finds fewer than K."""

    tiny: ClassVar[LshSizes] = LshSizes(3, 2, 8, 2, 5)

    def __init__(self, sizes: LshSizes | None = None) -> None:
        super().__init__(sizes or self.tiny)


TINY = f"{__name__}:TinyLsh"


@dataclasses.dataclass
class Rows:
    """A memory without a model."""

    memory: torch.Tensor
    norms: torch.Tensor
    num_candidates: int
    counts: tuple[int, ...] | None = None

    @classmethod
    def random(cls, batch: int, slots: int, width: int, num_candidates: int) -> "Rows":
        memory = torch.randn(batch, slots, width)
        return cls(memory, row_norms(memory), num_candidates)

    def write(self, rows: torch.Tensor) -> None:
        for element, own in enumerate(rows):
            self.memory[element, own[own >= 0]] = torch.randn(int((own >= 0).sum()), self.memory.shape[2])
        self.norms = row_norms(self.memory)


def available(name: str) -> str:
    reason = find_index(name).why_not()
    return pytest.skip(reason) if reason else name


def recall(index: Index, rows: Rows, queries: torch.Tensor, reads: int) -> float:
    expected = topk_content(rows.memory, rows.norms, queries, reads, rows.num_candidates)
    found = index.query(rows, queries, reads)
    assert found.shape == expected.shape
    assert found.dtype == torch.int64
    assert int(found.max()) < rows.num_candidates
    return float((expected.unsqueeze(3) == found.unsqueeze(2)).any(3).float().mean())


def near(rows: Rows, heads: int) -> torch.Tensor:
    return rows.memory[:, torch.randint(rows.num_candidates, (heads,))] + 0.1 * torch.randn(
        rows.memory.shape[0], heads, rows.memory.shape[2]
    )


@pytest.mark.parametrize("name", INDEXES)
def test_finds_rows_follows_writes_and_undoes_them(name):
    index, rows = make_index(available(name)), Rows.random(2, 1500, 16, 1400)
    index.build(rows)
    queries = near(rows, 40)
    assert recall(index, rows, queries, 1) > 0.6

    before = [t.clone() for t in index.tensors()]
    old, swaps = rows.memory.clone(), []
    for start in (0, 700, 1400):  # rows that are candidates already, and new ones
        written = torch.arange(start, start + 40).repeat(2, 1)
        written[:, 5] = -1
        written[:, 7] = written[:, 6]
        rows.write(written)
        rows.num_candidates = max(rows.num_candidates, start + 40)
        swaps.append(index.update(rows, written))
        fresh = rows.memory[:, start + 20 : start + 30].clone()
        assert recall(index, rows, fresh, 1) > 0.6
    after = [index.query(rows, queries, 4), *(t.clone() for t in index.tensors())]
    end = rows.memory.clone()

    rows.memory, rows.norms, rows.num_candidates = old, row_norms(old), 1400
    for swap in reversed(swaps):
        if swap is not None:
            swap.toggle()
    assert recall(index, rows, queries, 1) > 0.6
    assert all(torch.equal(a, b) for a, b in zip(before, index.tensors(), strict=True))
    rows.memory, rows.norms, rows.num_candidates = end, row_norms(end), 1440
    for swap in swaps:
        if swap is not None:
            swap.toggle()
    again = [index.query(rows, queries, 4), *index.tensors()]
    assert (again[0] == after[0]).float().mean() > 0.98
    assert all(torch.equal(a, b) for a, b in zip(after[1:], again[1:], strict=True))


@pytest.mark.parametrize("name", INDEXES)
def test_elements_with_candidates_of_their_own(name):
    """Found are those of each element, also once it has been reset and has written anew."""
    index, rows = make_index(available(name)), Rows.random(3, 40, 16, 30)
    rows.counts = (30, 0, 11)
    index.build(rows)
    for counts in (rows.counts, (31, 1, 12)):
        written = torch.tensor([[count - 1] for count in counts])
        if counts != rows.counts:
            rows.write(written)
            rows.counts, rows.num_candidates = counts, max(counts)
            index.update(rows, written)
        for element, count in enumerate(counts):
            found = index.query(rows, rows.memory[:, :4].contiguous(), 3)[element]
            assert int(found.max()) < count
            assert bool((found[:, 0] == torch.arange(4))[: min(count, 4)].all())
    rows.counts, rows.memory[0] = (0, 1, 12), 0
    change = index.forget(rows, [0], [31])
    assert bool((index.query(rows, rows.memory[:, :4].contiguous(), 3)[0] == -1).all())
    if change is not None:
        change.toggle()


@pytest.mark.parametrize("name", ["faiss-hnsw", "kd-forest"])
def test_a_library_without_updates_is_rebuilt(name, monkeypatch):
    index, rows = make_index(available(name)), Rows.random(1, 3000, 8, 3000)
    index.build(rows)
    rebuilds, build = [], index.build

    def counted_build(rows):
        rebuilds.append(rows)
        build(rows)

    monkeypatch.setattr(index, "build", counted_build)
    old, changes = rows.memory.clone(), []
    for start in range(0, 2000, 400):
        written = torch.arange(start, start + 400)[None]
        rows.write(written)
        changes.append(index.update(rows, written))
        assert recall(index, rows, rows.memory[:, start : start + 50].clone(), 1) == 1.0
    assert len(rebuilds) == 1
    rows.memory, rows.norms = old, row_norms(old)
    for change in reversed(changes):  # undoing writes from before the rebuild makes those rows changed again
        assert change is not None
        change.toggle()
    assert recall(index, rows, near(rows, 30), 1) > 0.9


@pytest.mark.parametrize("name", ["faiss-hnsw", "kd-forest"])
def test_a_saved_library_is_built_again_when_first_used(name):
    index, rows = make_index(available(name)), Rows.random(2, 300, 8, 300)
    index.build(rows)
    first, second = (pickle.loads(pickle.dumps(index)) for _ in range(2))
    written, old = torch.arange(100).repeat(2, 1), rows.memory.clone()
    assert recall(first, rows, rows.memory[:, :50].clone(), 1) == 1.0
    rows.write(written)
    swap = second.update(rows, written)
    assert recall(second, rows, rows.memory[:, 50:150].clone(), 1) == 1.0
    rows.memory, rows.norms = old, row_norms(old)
    swap.toggle()
    assert recall(second, rows, rows.memory[:, 50:150].clone(), 1) == 1.0


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_has_as_many_threads_afterwards_as_before(name, threads):
    index, rows = make_index(available(name)), Rows.random(2, 300, 8, 300)
    faiss: Any = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        for call in (
            lambda: index.build(rows),
            lambda: index.query(rows, near(rows, 3), 2),
            lambda: index.update(rows, torch.tensor([[3], [5]])),
            lambda: index.query(rows, near(rows, 3), 2),
            lambda: pickle.loads(pickle.dumps(index)).query(rows, near(rows, 3), 2),
        ):
            call()
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)


def test_a_call_of_faiss_uses_one_thread_and_restores_the_number_if_it_fails():
    faiss: Any = pytest.importorskip("faiss")
    threads = faiss.omp_get_max_threads()
    with rebuilt.one_thread():
        assert faiss.omp_get_max_threads() == 1
    with pytest.raises(ValueError, match="inside"), rebuilt.one_thread():
        raise ValueError("inside")
    assert faiss.omp_get_max_threads() == threads


@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize("name", [*LIBRARIES, "lsh"])
def test_sam_equals_autograd_through_dense_copies(name, fill):
    """There are so few rows that every index finds the nearest ones."""
    model = SAM(**SIZES, slots=13, heads=2, reads=3, index=available(name)).double()
    x = torch.randn(9, 2, 5, dtype=torch.float64)
    state = model.initial_state(2, fill=fill, seed=3)
    expected = dense_sam(model, x, state.memory.memory.clone(), fill == "full")
    y, _ = model(x, state)
    torch.testing.assert_close(y, expected.y, rtol=0, atol=1e-10)
    gradient = torch.randn_like(y)
    parameters = [*model.parameters()]
    for got, wanted in zip(
        torch.autograd.grad(y, parameters, gradient), torch.autograd.grad(expected.y, parameters, gradient), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize("model_type", [SAM, SDNC])
def test_native_sequence_equals_steps(model_type, fill):
    """Compare outputs, rows read, tables and all gradients, with an index that misses rows."""
    sizes = {**SIZES, "slots": 61, "heads": 2, "reads": 3, "index": TINY}
    models = [model_type(**sizes, kernels=kernels).double() for kernels in ("torch", "native")]
    models[1].load_state_dict(models[0].state_dict())
    if models[1].backend["kernels"] != "native":
        pytest.skip("no native kernels")
    x = torch.randn(23, 3, 5, dtype=torch.float64)
    direction = torch.randn(23, 3, 3, dtype=torch.float64)
    runs = []
    for model in models:
        state = model.initial_state(3, fill=fill, seed=1)
        y, after = model(x, state)
        rows = after.memory.rows
        reached = [after.memory.index, *(t.clone() for t in (*rows.index.tensors(), rows.memory))]
        gradients = torch.autograd.grad(y, [*model.parameters()], direction)
        runs.append([y, *reached, *gradients])
    exact = model_type(**{**sizes, "index": "exact"}).double()
    exact.load_state_dict(models[0].state_dict())
    assert not torch.allclose(exact(x, exact.initial_state(3, fill=fill, seed=1))[0], runs[0][0])  # it did miss
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernels", ["torch", "native"])
@pytest.mark.parametrize("model_type", [SAM, SDNC])
def test_rollback_restores_the_tables(model_type, kernels):
    model = model_type(**SIZES, slots=61, heads=2, reads=3, index=TINY, kernels=kernels)
    state = model.initial_state(2, fill="full")
    with torch.no_grad():
        _, state = model(torch.randn(8, 2, 5), state)
    index = state.memory.rows.index
    before = [t.clone() for t in index.tensors()]
    y, after = model(torch.randn(50, 2, 5), state)
    middle = [t.clone() for t in index.tensors()]
    assert not torch.equal(before[2], middle[2])
    y.sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(before, index.tensors(), strict=True))
    after.detach()
    assert all(torch.equal(a, b) for a, b in zip(middle, index.tensors(), strict=True))


@pytest.mark.parametrize("name", [*INDEXES, TINY])
def test_state_is_sliced_and_saved_with_its_index(name, tmp_path):
    model = SAM(**SIZES, slots=50, heads=2, reads=2, index=available(name))
    x = torch.randn(6, 3, 5)
    with torch.no_grad():
        _, state = model(x, model.initial_state(3, fill="full"))
        torch.save(state, tmp_path / "state.pt")
        loaded = torch.load(tmp_path / "state.pt")
        alone = [model(x[:, b : b + 1], loaded[b : b + 1])[0] for b in range(3)]
        moved, _ = model(x, state.to("cpu"))
        y, _ = model(x, state)
    torch.testing.assert_close(moved, y)
    torch.testing.assert_close(torch.cat(alone, dim=1), y)


def test_state_bytes_are_predicted_with_the_index():
    for name in ("lsh", "faiss-ivf"):
        model = SAM(**SIZES, slots=4096, index=available(name))
        assert model.memory_bytes(2, 10, "train")["state"] == pytest.approx(model.initial_state(2, fill="full").size_bytes, rel=0.01)


def test_chosen_sizes_reach_their_target():
    torch.manual_seed(1)
    memory = torch.nn.functional.normalize(torch.randn(1, 20000, 32), dim=2)
    rows = Rows(memory, row_norms(memory), 20000)
    stored = memory[:, torch.randint(20000, (400,))]
    queries = stored + 0.1 * torch.randn_like(stored)
    for target, over in ((0.5, 0.13), (0.7, 0.12), (0.95, 0.12)):  # of two probes one more counts much
        index = Lsh(choose_sizes(20000, target))
        index.build(rows)
        assert target - 0.05 <= recall(index, rows, queries, 1) <= target + over
    assert choose_sizes(97, 0.5) == LshSizes(1, 0, 104, 1, 104)


def test_a_pass_keeps_equally_much_from_16k_to_16m_rows():
    model = SAM(**SIZES, slots=8, index="lsh")
    kept = set()
    for slots in (2**14, 2**17 + 1, 2**20, 2**24):
        model.slots = slots
        kept.add(model.memory_bytes(1, 10, "train")["tape"])
    assert len(kept) == 1
    for target in (0.5, 0.7, 0.95):
        assert len({choose_sizes(2**power, target).tables for power in range(14, 25)}) == 1


def test_sizes_for_four_reach_their_target_and_larger_buckets_find_crowded_rows():
    fields: dict[str, Any] = {"suite": "index", "slots": 2**16, "mode": "infer", "steps": 1}
    assert recall_in(**fields, model="index:query", index="lsh-four") > 0.78
    alone, wide = (recall_in(**fields, model="index:crowded", index=name) for name in ("lsh-four", "lsh-four-wide"))
    assert alone < 0.7
    assert wide > alone + 0.1
    assert sizes_for_four(97) == choose_sizes(97, 0.5)
    assert sizes_for_four(2**20, lines=4).capacity == 32


def recall_in(**fields):
    """Recall@4 of a case of the suite."""
    recall = make_workload(Case(**fields)).recall()
    assert recall is not None
    return recall


def test_written_rows_crowd_around_the_same_directions():
    workload = IndexWorkload(Case(suite="index", model="index:crowded-aged", index="exact", slots=4096, mode="infer", steps=1))
    memory = workload.state.memory[0]
    assert ((memory @ memory.T) > 0.7).sum(1).min() > 4096 / 8  # of 4 directions, written again or not


@pytest.mark.parametrize("name", INDEXES)
def test_as_workloads_of_the_suite(name):
    sizes: dict[str, Any] = {"suite": "index", "index": available(name), "slots": 2000, "word_size": 8, "steps": 3, "batch": 2}
    for does in ("query", "aged", "crowded", "crowded-aged", "build", "update"):
        workload = make_workload(Case(**sizes, model=f"index:{does}", mode="train" if does == "update" else "infer"))
        assert isinstance(workload, IndexWorkload)
        check = check_workload(workload)
        assert check is None or check.ok
        assert (check is None) == (workload.backend["kernels"] != "native")
        tables = [t.clone() for t in workload.state.index.tensors()]
        workload.run_pass()
        assert all(torch.equal(a, b) for a, b in zip(tables, workload.state.index.tensors(), strict=True))  # undone, or nothing changed
        recall = workload.recall()
        assert (recall is None) if does in ("build", "update") else (recall is not None and recall > (0.02 if "crowded" in does else 0.5))


def test_a_missing_library_is_recorded_as_unavailable(monkeypatch):
    monkeypatch.setattr(rebuilt.importlib.util, "find_spec", lambda name: None)
    case = Case(suite="s", model="sam", index="faiss-hnsw", slots=64)
    assert precheck(case, Budget(), StoppedCurves([])) == Failure(status="unavailable", reason=str(rebuilt.faiss_missing()))


def test_what_is_missing_is_reported(monkeypatch):
    monkeypatch.setattr(rebuilt.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="faiss is not installed: pip install faiss-cpu"):
        make_index("faiss-ivf")
    with pytest.raises(Unavailable, match="kd-forest needs OpenCV"):
        make_index("kd-forest")
    with pytest.raises(ValueError, match=r"index: expected one of exact, exact-scan, live, lsh, .* or package\.module:Class, got 'btree'"):
        find_index("btree")
    with pytest.raises(ValueError, match="to be a subclass of"):
        find_index("tests.support.dense_sam:DenseRun")
    with pytest.raises(ValueError, match="to be importable"):
        find_index("tests.nowhere:Index")


def test_a_models_result_has_the_recall_of_its_index():
    fields: dict[str, Any] = {"suite": "s", "model": "sam", "slots": 1009, "steps": 2}
    recall = make_workload(Case(**fields, index="lsh")).recall()
    assert recall is not None
    assert 0.2 < recall < 1
    assert make_workload(Case(**fields)).recall() is None  # an exact search finds all
    assert make_workload(Case(**fields, index="lsh", fill="empty")).recall() is None
