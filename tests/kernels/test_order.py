"""All searches use one order: higher scores first, of equal scores the lower row, and NaN before all, so that it is read."""

import functools
import itertools

import pytest
import torch

from mann_bench.kernels import ops, reference
from mann_bench.kernels.native import build
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.ops import content
from mann_bench.kernels.reference import LshSizes, LshTables, largest_entries, row_norms
from mann_bench.models import SAM, SDNC

NAN, INF = float("nan"), float("inf")


@pytest.fixture(params=["torch", "cpu", "emu"])
def search(request, monkeypatch):
    """`topk_content` and `lsh_query` in torch, in blocks of one thread, and in blocks of seven."""
    if request.param == "torch":
        return reference
    if build.why_not() is not None:
        pytest.skip(f"no native kernels: {build.why_not()}")
    if request.param == "emu":
        monkeypatch.setattr(ops.operator, "Build", functools.partial(Build, emulate=True))
    return ops


def expected_order(scores):
    """Rows in the expected order of their scores."""
    return sorted(range(len(scores)), key=lambda row: (-(INF if scores[row] != scores[row] else scores[row]), row))


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize(("slots", "reads"), [(1, 1), (5, 4), (23, 9), (64, 3), (97, 32), (130, 7)])
def test_equal_rows_in_the_order_of_their_numbers(slots, reads, parts, search, monkeypatch):
    """Rows of three kinds have scores that are equal to the bit; runs of equal rows cross the borders of tiles, lists and parts."""
    monkeypatch.setattr(content, "parts_of_rows", lambda device, batch, threads: parts)
    reads = min(reads, slots)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        kinds = torch.tensor([[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]], dtype=torch.float32)
        memory = kinds[torch.randint(3, (1, slots), generator=generator).repeat_interleave(1 + seed, dim=1)[:, :slots]]
        queries = torch.tensor([[[0, 0, 0, 0], [1, 0, 0, 0], [1, 2, 0, 0], [-1, -1, 0, 0]]], dtype=torch.float32)
        norms = row_norms(memory)
        scores = queries @ memory.transpose(1, 2) / norms[:, None]
        for candidates, scan_all in itertools.product((slots, slots // 2), (True, False)):
            found = search.topk_content(memory, norms, queries, reads, candidates, scan_all=scan_all)
            for head in range(4):
                wanted = expected_order(scores[0, head, :candidates].tolist())[:reads]
                assert found[0, head].tolist() == wanted + [-1] * (reads - len(wanted))


@pytest.mark.parametrize("reads", [1, 3, 8])
def test_nan_is_found(reads, search):
    torch.manual_seed(0)
    memory = torch.randn(2, 41, 5)
    memory[0, [7, 8, 30]] = torch.tensor([[NAN] * 5, [INF] * 5, [0, 0, NAN, 0, 0]])
    norms = row_norms(memory)
    queries = torch.randn(2, 4, 5)
    queries[1, 0], queries[1, 1], queries[1, 2] = NAN, INF, torch.tensor([0, -INF, 0, 0, 0])
    found = search.topk_content(memory, norms, queries, reads, 41)
    scores = queries @ memory.transpose(1, 2) / norms[:, None]
    for element, head in itertools.product(range(2), range(4)):
        assert found[element, head].tolist() == expected_order(scores[element, head].tolist())[:reads]
    assert found[0, :, 0].tolist() == [7] * 4
    assert found[1, :3, 0].tolist()[0] == 0


def test_all_scores_infinitely_low_are_still_found(search):
    memory = -torch.ones(1, 9, 3)
    queries = torch.full((1, 1, 3), INF)
    assert search.topk_content(memory, row_norms(memory), queries, 4, 9).tolist() == [[[0, 1, 2, 3]]]


def hashed(memory, search, candidates):
    """An index of one bucket for all rows, and one of a few buckets."""
    batch, slots, width = memory.shape
    for sizes in (LshSizes(1, 0, 8 * -(-slots // 8), 1, slots), LshSizes(3, 2, 16, 4, 40)):
        tables = LshTables.empty(batch, slots, width, sizes, memory.dtype)
        search.lsh_fill(tables, memory, candidates)
        yield tables, sizes


def test_equal_rows_of_a_hash_index(search):
    """Rows are written in another order than that of their numbers, so that a lower row comes later in its bucket."""
    memory = torch.ones(1, 24, 4)
    memory[:, 5] = 2
    for tables, sizes in hashed(memory, search, 24):
        search.lsh_update(tables, memory, torch.tensor([[9, 3, 20, 1]]))
        found = search.lsh_query(tables, memory, torch.ones(1, 1, 4), 6, sizes.rerank)[0, 0]
        present = sorted({int(row) for row in tables.buckets.flatten() >> 32 if row >= 0})
        scores = memory[0, present].sum(1) / row_norms(memory)[0, present]
        assert found.tolist() == [present[i] for i in expected_order(scores.tolist())[:6]]


@pytest.mark.parametrize("candidates", [0, 1, 40])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_nan_query_of_a_hash_index_reads_a_row(value, candidates, search):
    memory, queries = torch.randn(2, 40, 4), torch.randn(2, 3, 4)
    queries[1, 1, 2] = value
    for tables, sizes in hashed(memory, search, candidates):
        found = search.lsh_query(tables, memory, queries, 2, sizes.rerank)
        assert int(found[1, 1, 0]) >= 0
        assert bool((found[0] < 40).all())


@pytest.mark.parametrize("value", [1.0, NAN])
def test_largest_entries_of_a_sparse_vector(value):
    columns, values = torch.tensor([7, 2, -1, 5, 3]), torch.tensor([value, value, 0, 0.5, value])
    kept, kept_values = largest_entries(columns, values, 4)
    assert kept.tolist() == [2, 3, 7, 5]
    assert torch.equal(kept_values.nan_to_num(9), torch.tensor([value, value, value, 0.5]).nan_to_num(9))
    assert largest_entries(columns, values, 2)[0].tolist() == [2, 3]


def test_nan_without_a_column_is_no_entry():
    kept, values = largest_entries(torch.tensor([-1, 4, -1]), torch.tensor([NAN, 0.5, NAN]), 2)
    assert kept.tolist() == [4, -1]
    assert values.tolist() == [0.5, 0]


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("poisoned", ["writes", "reads"])
def test_links_that_are_not_finite(value, poisoned, search):
    """One rule for all kernels: NaN is kept, before all numbers, with its column; what has no column has no value."""
    links = [reference.SparseLinks.empty(2, 20, 3, torch.float32) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    written = torch.stack([torch.randperm(20, generator=generator)[:7] for _ in range(24)]).view(12, 2, 7)
    written[::3, :, 2] = -1
    weights, read_weights = torch.rand(12, 2, 7, generator=generator) / 7, torch.rand(12, 2, 2, 3, generator=generator)
    index = torch.randint(-1, 20, (12, 2, 2, 3), generator=generator)
    (weights if poisoned == "writes" else read_weights)[3:5, 0, 1] = value
    if poisoned == "writes":
        weights[6, 0, 2] = value  # of no row
    start = (torch.full((2, 3), -1), torch.zeros(2, 3))
    modules = zip((reference, search), links, strict=True)
    expected, got = (module.link_steps(own, start, written, weights, index, read_weights) for module, own in modules)
    assert torch.equal(got[2][0], expected[2][0])
    for mine, other in zip(vars(links[1]).values(), vars(links[0]).values(), strict=True):
        assert_alike(mine, other)
    for (columns, values), (other_columns, other_values) in zip(got, expected, strict=True):
        assert torch.equal(columns, other_columns)
        assert_alike(values, other_values)
    assert not links[0].before_values[0].isfinite().all() or poisoned == "reads"


def assert_alike(got, expected):
    torch.testing.assert_close(got, expected, equal_nan=True)


def test_links_of_equal_weight(search):
    """Weights are powers of two, whose sums are exact. Of equal weights the lower columns are kept, in whatever order they were written."""
    links = [reference.SparseLinks.empty(1, 20, 3, torch.float32) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    written = torch.stack([torch.randperm(20, generator=generator)[:7] for _ in range(12)])[:, None]
    weights = torch.full(written.shape, 0.125)
    index, read_weights = torch.randint(20, (12, 1, 2, 3), generator=generator), torch.full((12, 1, 2, 3), 0.25)
    start = (torch.full((1, 3), -1), torch.zeros(1, 3))
    modules = zip((reference, search), links, strict=True)
    ends = [module.link_steps(own, start, written, weights, index, read_weights)[2] for module, own in modules]
    assert ends[0][0].tolist() == [written[-1, 0].sort().values[:3].tolist()]
    assert torch.equal(ends[0][0], ends[1][0])
    for one, other in zip(vars(links[0]).values(), vars(links[1]).values(), strict=True):
        assert torch.equal(one, other)


SIZES = {"input_size": 3, "output_size": 2, "hidden": 4, "word_size": 4, "heads": 2}


@pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")
@pytest.mark.parametrize("index", ["exact", "live", "lsh"])
@pytest.mark.parametrize(("slots", "reads"), [(13, 4), (37, 5), (67, 3)])
@pytest.mark.parametrize("kind", [SAM, SDNC])
def test_native_and_torch_passes_choose_the_same_among_equal_rows(kind, slots, reads, index):
    """With zero queries and equal written values, reads, links and the order of use depend only on the choice among equal rows."""
    chosen = []
    for kernels in ("torch", "native"):
        torch.manual_seed(0)
        model = kind(**SIZES, slots=slots, reads=reads, index=index, kernels=kernels).double()
        with torch.no_grad():
            model.interface.weight.zero_()
            model.interface.bias[: 2 * 4] = 0  # the queries
            model.interface.bias[2 * 5 :] = 1
            if kind is SDNC:  # content alone: sums with links are equal but for rounding
                model.interface.bias[-6:] = torch.tensor([0, 2000, 0, 0, 2000, 0], dtype=torch.float64)
            state = model.initial_state(2, fill="full")
            y, state = model(torch.randn(9, 2, 3, dtype=torch.float64), state)
        memory = state.memory
        found = [memory.index, memory.rows.ring.order(), memory.rows.memory, memory.weights, y]
        chosen.append(found + ([memory.links.after_columns, memory.precedence_rows] if kind is SDNC else []))
    for torch_found, native_found in zip(*chosen, strict=True):
        torch.testing.assert_close(native_found, torch_found, rtol=1e-12, atol=1e-12)
