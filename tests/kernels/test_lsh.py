"""The hash index on native kernels against its plain twin: codes, buckets, logs, undo and queries equal to the bit; and what it finds."""

import functools

import pytest
import torch

from mann_bench.kernels import ops, reference
from mann_bench.kernels.native import build
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.reference import LshSizes, LshTables
from mann_bench.kernels.reference.lsh import probe_masks

# B, N, W, R, K and an index: one bucket, full buckets, more planes than directions, primes, several lines a bucket
SIZES = [
    ((1, 1, 1, 1, 1), LshSizes(1, 0, 8, 1, 1)),
    ((2, 97, 32, 4, 4), LshSizes(3, 3, 8, 4, 7)),
    ((1, 211, 5, 3, 9), LshSizes(5, 7, 8, 12, 16)),
    ((3, 150, 33, 2, 3), LshSizes(2, 2, 24, 4, 5)),
    ((2, 300, 32, 1, 4), LshSizes(4, 5, 16, 32, 64)),
]
sizes = pytest.mark.parametrize(("size", "index"), SIZES, ids=str)


@pytest.fixture(params=["cpu", "emu"])
def native(request, monkeypatch):
    """Native kernels with blocks of one thread, and with blocks of seven threads."""
    if build.why_not() is not None:
        pytest.skip(f"no native kernels: {build.why_not()}")
    if request.param == "emu":
        monkeypatch.setattr(ops.operator, "Build", functools.partial(Build, emulate=True))


def make(size, index, dtype, store=None):
    batch, slots, width, _, _ = size
    memory = torch.randn(batch, slots, width, dtype=dtype).to(store or dtype)
    return memory, [LshTables.empty(batch, slots, width, index, dtype) for _ in range(2)]


def assert_same(one: LshTables, other: LshTables) -> None:
    for a, b in zip(one.tensors(), other.tensors(), strict=True):
        assert torch.equal(a, b)


def near(memory: torch.Tensor, heads: int) -> torch.Tensor:
    rows = torch.randint(memory.shape[1], (heads,))
    return memory[:, rows] + 0.3 * torch.randn(memory.shape[0], heads, memory.shape[2])


@sizes
@pytest.mark.parametrize(("dtype", "store"), [(torch.float32, None), (torch.float64, None), (torch.float32, torch.bfloat16)], ids=str)
def test_native_equals_twin_to_the_bit(size, index, dtype, store, native):
    batch, slots, _, heads, reads = size
    memory, (plain, fast) = make(size, index, dtype, store)
    candidates = slots * 2 // 3 + 1
    reference.lsh_fill(plain, memory, candidates)
    ops.lsh_fill(fast, memory, candidates)
    assert_same(plain, fast)

    undos = []
    for _ in range(4):
        rows = torch.randint(-1, slots, (batch, 11))
        rows[:, 3] = rows[:, 0]  # two heads write to one row
        for element in range(batch):
            written = rows[element][rows[element] >= 0]
            memory[element, written] += 0.5 * torch.randn(len(written), memory.shape[2]).to(memory.dtype)
        before = [t.clone() for t in plain.tensors()]
        one, other = reference.lsh_update(plain, memory, rows), ops.lsh_update(fast, memory, rows)
        assert_same(plain, fast)
        assert torch.equal(one.places, other.places)
        emptied, filled = (one.places >= 0).unbind(3)
        assert torch.equal(one.sketches[emptied], other.sketches[emptied])
        assert torch.equal(one.entries[filled], other.entries[filled])
        undos.append((one, other, before))
        queries = near(memory.to(dtype), heads).to(dtype)
        expected = reference.lsh_query(plain, memory, queries, reads, index.rerank)
        assert torch.equal(ops.lsh_query(fast, memory, queries, reads, index.rerank), expected)

    end = [t.clone() for t in plain.tensors()]
    for one, other, before in reversed(undos):
        one.toggle()
        other.toggle()
        assert_same(plain, fast)
        assert all(torch.equal(a, b) for a, b in zip(plain.tensors(), before, strict=True))
    for one, other, _ in undos:
        one.toggle()
        other.toggle()
    assert_same(plain, fast)
    assert all(torch.equal(a, b) for a, b in zip(plain.tensors(), end, strict=True))


@sizes
def test_a_build_equals_updates_of_all_rows_in_order(size, index):
    memory, (filled, updated) = make(size, index, torch.float32)
    reference.lsh_fill(filled, memory, size[1])
    reference.lsh_update(updated, memory, torch.arange(size[1]).repeat(size[0], 1))
    assert_same(filled, updated)


def test_one_bucket_for_all_is_an_exact_search(native):
    memory, (tables, _) = make((2, 97, 32, 4, 4), LshSizes(1, 0, 104, 1, 104), torch.float32)
    ops.lsh_fill(tables, memory, 97)
    queries = near(memory, 4)
    found = ops.lsh_query(tables, memory, queries, 5, 104)
    assert torch.equal(found, reference.topk_content(memory, reference.row_norms(memory), queries, 5, 97))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_words_of_one_number_are_found_from_the_other_side_too(dtype, native):
    """All projections of a number are equal: whether they count as more than their mean must not depend on rounding."""
    sizes = LshSizes(4, 3, 8, 8, 32)
    for _ in range(50):
        memory = torch.randn(1, 5, 1, dtype=dtype)
        tables = LshTables.empty(1, 5, 1, sizes, dtype)
        reference.lsh_fill(tables, memory, 5)
        queries = 4 * torch.randn(1, 3, 1, dtype=dtype)
        for query in (reference.lsh_query, ops.lsh_query):  # in which order, rounding decides
            assert torch.equal(query(tables, memory, queries, 5, sizes.rerank).sort().values, torch.arange(5).expand(1, 3, 5))


def test_a_row_that_was_pushed_out_comes_back_when_it_is_written(native):
    memory = torch.ones(1, 20, 4)
    tables = LshTables.empty(1, 20, 4, LshSizes(1, 2, 8, 1, 8), torch.float32)
    ops.lsh_fill(tables, memory, 20)  # all in one bucket of eight
    standing = sorted((tables.buckets[tables.buckets >= 0] >> 32).tolist())
    assert standing == [12, 13, 14, 15, 16, 17, 18, 19]
    ops.lsh_update(tables, memory, torch.tensor([[3, -1]]))
    assert 3 in (tables.buckets[tables.buckets >= 0] >> 32).tolist()


def test_hostile_rows_and_queries_stay_in_bounds(native):
    index = LshSizes(3, 4, 8, 8, 16)
    memory, (plain, fast) = make((2, 64, 32, 4, 4), index, torch.float32)
    memory[:, ::3] = float("nan")
    memory[:, 1::3] = float("inf")
    memory[:, 2::9] = 0
    reference.lsh_fill(plain, memory, 64)
    ops.lsh_fill(fast, memory, 64)
    queries = torch.cat([torch.full((2, 1, 32), float("nan")), torch.full((2, 1, 32), float("inf")), torch.zeros(2, 1, 32)], dim=1)
    found = ops.lsh_query(fast, memory, queries, 4, 16)
    assert found.min() >= -1
    assert found.max() < 64
    with pytest.raises(ValueError, match=r"rows: expected rows -1 \(none\) or 0..63, got 64"):
        ops.lsh_update(fast, memory, torch.tensor([[64], [0]]))


def test_probe_masks_go_from_likely_to_unlikely():
    assert probe_masks(0, 1).tolist() == [0]
    assert probe_masks(16, 6).tolist() == [0b0, 0b1, 0b10, 0b11, 0b100, 0b101]
    assert len(set(probe_masks(20, 512).tolist())) == 512


def test_bad_sizes():
    for bad in (LshSizes(0, 4, 8, 1, 1), LshSizes(1, 25, 8, 1, 1), LshSizes(1, 4, 7, 1, 1), LshSizes(1, 1, 8, 3, 1)):
        with pytest.raises(ValueError, match="sizes: expected tables, rerank >= 1"):
            LshTables.empty(1, 10, 4, bad, torch.float32)
    for slots, large in ((2**31, LshSizes(1, 4, 8, 1, 1)), (10, LshSizes(1, 24, 128, 1, 1))):
        with pytest.raises(ValueError, match=f"slots, sizes: expected at most 2147483647 rows, .*, got {slots} and"):
            LshTables.empty(1, slots, 4, large, torch.float32, "meta")
    memory, (tables, _) = make((2, 64, 32, 4, 4), LshSizes(3, 4, 8, 8, 16), torch.float32)
    with pytest.raises(ValueError, match=r"memory: expected torch.float32 \[B, N, W\]"):
        ops.lsh_query(tables, memory[0], torch.randn(2, 1, 32), 1, 8)
    with pytest.raises(ValueError, match=r"queries: expected torch.float32 \[B = 2, R, W = 32\]"):
        ops.lsh_query(tables, memory, torch.randn(2, 1, 31), 1, 8)
    with pytest.raises(ValueError, match="num_candidates: expected a number of rows from 0 to N = 64, got 65"):
        ops.lsh_fill(tables, memory, 65)
