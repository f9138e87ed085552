"""8-bit copies of rows: the bounds hold, and a search with them finds what the full scan finds, whatever rows and queries there are."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mann_bench.kernels import ops, reference
from mann_bench.kernels.native import build
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.ops import content
from mann_bench.kernels.reference import row_norms
from mann_bench.kernels.reference.byte_rows import BLOCK_ROWS, WIDEST

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")
NAN, INF = float("nan"), float("inf")
TYPES = [(torch.float32, torch.float32), (torch.float64, torch.float64), (torch.float32, torch.bfloat16)]
types = pytest.mark.parametrize(("real", "store"), TYPES, ids=["float32", "float64", "bfloat16"])
KINDS = ["random", "tiny", "huge", "near", "equal", "zero", "one number", "subnormal", "not finite"]


@pytest.fixture(params=["cpu", "emu"], autouse=True)
def emulated(request, monkeypatch):
    """Native kernels with blocks of one thread, and with blocks of seven threads."""
    if request.param == "emu":
        monkeypatch.setattr(ops.operator, "Build", functools.partial(Build, emulate=True))


def vectors(kind, count, width, real, generator):
    """Vectors [count, W] that a bound may get wrong."""
    drawn = torch.randn(count, width, generator=generator, dtype=real)
    if kind in ("tiny", "huge"):
        power = torch.randint(1, 38, (count, 1), generator=generator)
        return drawn * 10.0 ** (power if kind == "huge" else -power)
    if kind == "near":  # a few units in the last place apart
        return drawn[:1] * (1 + 1e-7 * torch.randint(-4, 5, (count, width), generator=generator))
    if kind == "equal":
        return drawn[:1].expand(count, width) * 2.0 ** torch.randint(0, 3, (count, 1), generator=generator)
    if kind == "zero":
        return 0 * drawn
    if kind == "one number":
        return drawn * (torch.arange(width) == torch.randint(width, (count, 1), generator=generator))
    if kind == "subnormal":
        return 1e-41 * drawn
    if kind == "not finite":
        picked = torch.tensor([NAN, INF, -INF, 3e38])[torch.randint(4, (count, 1), generator=generator)].to(real)
        return torch.where(torch.rand(count, width, generator=generator) < 0.2, picked, drawn)
    return drawn


def memory_of(kinds, slots, width, real, store, generator):
    """Rows [2, N, W] of several kinds, mixed, and their norms."""
    rows = torch.stack([vectors(kind, 2 * slots, width, real, generator) for kind in kinds])
    chosen = torch.randint(len(kinds), (2 * slots,), generator=generator)
    memory = rows[chosen, torch.arange(2 * slots)].view(2, slots, width).to(store).contiguous()
    return memory, row_norms(memory.to(real))


@types
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    st.sampled_from(KINDS),
    st.integers(1, 70),
    st.sampled_from([1, 3, 5, 32, 37]),
    st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_rows_of_the_full_scan(real, store, kinds, query_kind, slots, width, seed):
    generator = torch.Generator().manual_seed(seed)
    memory, norms = memory_of(kinds, slots, width, real, store, generator)
    heads, reads, candidates = 1 + seed % 5, 1 + seed % min(slots, 9), slots - seed % (slots + 1) * (seed % 3 == 0)
    queries = vectors(query_kind, 2 * heads, width, real, generator).view(2, heads, width)
    queries[0, 0] = memory[0, slots // 2].to(real)
    copies = ops.byte_rows(memory, norms)
    found = ops.topk_content(memory, norms, queries, reads, candidates, byte_rows=copies)
    assert torch.equal(found, ops.topk_content(memory, norms, queries, reads, candidates))


@types
@given(st.sampled_from(KINDS), st.sampled_from(KINDS), st.sampled_from([1, 4, 32, 37, 200]), st.integers(0, 2**16))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_no_score_is_above_its_bound(real, store, kind, query_kind, width, seed):
    generator = torch.Generator().manual_seed(seed)
    memory, norms = memory_of([kind], 40, width, real, store, generator)
    queries = vectors(query_kind, 6, width, real, generator).view(2, 3, width)
    bounds = reference.score_bounds(ops.byte_rows(memory, norms), queries)[..., :40].double()
    numbers = memory.to(real).transpose(1, 2)
    for computed in (queries @ numbers, (queries.double() @ numbers.double()).to(real)):
        scores = (computed * (1 / norms)[:, None]).double()
        assert not bool((bounds < scores).any())
        if kind == query_kind == "random":
            assert bool((bounds - scores < 0.05 * queries.double().norm(dim=2, keepdim=True)).all())


def test_a_score_out_of_bounds_would_be_noticed():
    """With half of each scale and no error, nearer rows are missed."""
    memory, norms = memory_of(["random"], 640, 32, torch.float32, torch.float32, torch.Generator().manual_seed(1))
    copies, queries = ops.byte_rows(memory, norms), memory[:, 60:61].clone()
    copies[:, :, -1] = (copies[:, :, -1] & ~0xFFFF) - (1 << 23)
    found = ops.topk_content(memory, norms, queries, 4, 640, byte_rows=copies)
    assert not torch.equal(found, ops.topk_content(memory, norms, queries, 4, 640))


@types
@pytest.mark.parametrize("width", [1, 6, 32, 37])
def test_copies_are_those_of_the_twin_and_follow_their_rows(real, store, width):
    generator = torch.Generator().manual_seed(0)
    memory, norms = memory_of(KINDS, 43, width, real, store, generator)
    copies = ops.byte_rows(memory, norms)
    assert_alike(copies, reference.byte_rows(memory, norms))
    rows = torch.tensor([[3, 42, -1, 3, 17], [0, 1, 2, 42, -1]])
    changed, _ = memory_of(KINDS, 5, width, real, store, generator)
    for element, own in enumerate(rows):
        memory[element, own[own >= 0]] = changed[element, own >= 0]
    norms = row_norms(memory.to(real))
    twin = copies.clone()
    ops.renew_byte_rows(copies, memory, norms, rows)
    reference.renew_byte_rows(twin, memory, norms, rows)
    assert torch.equal(copies, ops.byte_rows(memory, norms))
    assert_alike(copies, twin)


def assert_alike(copies, twin):
    """The same bytes and scales; an error may be rounded up to the next of its numbers, as sums differ in their order."""
    assert torch.equal(copies[:, :, :-1], twin[:, :, :-1])
    assert torch.equal(copies[:, :, -1] >> 16, twin[:, :, -1] >> 16)
    assert bool(((copies[:, :, -1] & 0xFFFF) - (twin[:, :, -1] & 0xFFFF)).abs().max() <= 1)


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_parts_of_the_rows(parts, monkeypatch):
    """Parts begin at multiples of 8 rows, some after the last one."""
    for slots in (5, 17, 40, 99):
        memory, norms = memory_of(["equal", "random"], slots, 5, torch.float32, torch.float32, torch.Generator().manual_seed(slots))
        queries = torch.randn(2, 3, 5)
        for candidates in (slots, slots // 2, 0):
            monkeypatch.setattr(content, "parts_of_rows", lambda device, batch, threads: 1)
            expected = ops.topk_content(memory, norms, queries, 4, candidates)
            monkeypatch.setattr(content, "parts_of_rows", lambda device, batch, threads: parts)
            for copies in (None, ops.byte_rows(memory, norms)):
                assert torch.equal(ops.topk_content(memory, norms, queries, 4, candidates, byte_rows=copies), expected)


def test_what_does_not_fit_is_refused():
    memory = torch.randn(1, 20, 6)
    norms = row_norms(memory)
    copies = ops.byte_rows(memory, norms)
    assert copies.shape == (1, 3, 3, BLOCK_ROWS)
    assert not copies[:, 2, :, 4:].any()
    wanted = r"byte_rows: expected torch.int32 \[B = 1, blocks = 3, words = 3, rows = 8\] on cpu, got"
    for wrong in (copies[:, :2], copies.long(), copies[:, :, :2]):
        with pytest.raises(ValueError, match=f"topk_content: {wanted}"):
            ops.topk_content(memory, norms, memory[:, :1].contiguous(), 2, 20, byte_rows=wrong)
        with pytest.raises(ValueError, match=f"byte_rows: {wanted}"):
            ops.renew_byte_rows(wrong, memory, norms, torch.tensor([[1]]))
    with pytest.raises(ValueError, match=r"byte_rows: rows: expected rows -1 \(none\) or 0\.\.19, got 20"):
        ops.renew_byte_rows(copies, memory, norms, torch.tensor([[20]]))
    wide = torch.zeros(1, 2, WIDEST + 1)
    with pytest.raises(
        ValueError, match=f"byte_rows: memory: expected rows of at most {WIDEST} numbers to be copied to bytes, got {WIDEST + 1}"
    ):
        ops.byte_rows(wide, row_norms(wide))
