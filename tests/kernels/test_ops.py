"""Each native op against its plain twin: outputs, states, gradients, undo, awkward sizes, NaN, infinity; on the cpu and emu builds."""

import functools

import pytest
import torch

from mann_bench.kernels import ops, reference
from mann_bench.kernels.native import build
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.ops import content, links, lru_ring, reading, sparse_rows
from mann_bench.kernels.reference import row_norms
from tests.kernels.test_lru_ring import ROWS, replay

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")

# B, N, W, R, K: ones, primes, a common word size, more reads than rows
SIZES = [(1, 1, 1, 1, 1), (2, 13, 5, 3, 4), (3, 7, 32, 2, 9), (1, 97, 32, 1, 5), (2, 31, 33, 4, 2)]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
sizes = pytest.mark.parametrize("size", SIZES, ids=str)


@pytest.fixture(params=["cpu", "emu"], autouse=True)
def emulated(request, monkeypatch):
    """Native kernels with blocks of one thread, and with blocks of seven threads."""
    reading._reading.cache_clear()
    if request.param == "emu":
        monkeypatch.setattr(ops.operator, "Build", functools.partial(Build, emulate=True))
    yield request.param == "emu"
    reading._reading.cache_clear()  # it holds calls of the build that they were prepared for


def close(got, expected, dtype):
    torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def make_memory(batch, slots, width, dtype, store=None):
    memory = torch.randn(batch, slots, width, dtype=dtype).to(store or dtype)
    return memory, row_norms(memory.to(dtype))


@sizes
@dtypes
@pytest.mark.parametrize("parts", [1, 3])
def test_topk_content(size, dtype, parts, monkeypatch):
    batch, slots, width, heads, reads = size
    monkeypatch.setattr(content, "threads_for", lambda work_bytes: 2)
    monkeypatch.setattr(content, "parts_of_rows", lambda device, batch, threads: parts)
    memory, norms = make_memory(batch, slots, width, dtype)
    queries = torch.randn(batch, heads, width, dtype=dtype)
    for candidates in {0, 1, slots // 2, slots}:
        for scan_all in (True, False):
            expected = reference.topk_content(memory, norms, queries, reads, candidates, scan_all=scan_all)
            assert torch.equal(ops.topk_content(memory, norms, queries, reads, candidates, scan_all=scan_all), expected)


def test_topk_content_takes_the_first_of_equal_rows_whatever_the_number_of_parts(monkeypatch):
    memory = torch.ones(1, 23, 4)
    for parts in (1, 2, 5):
        monkeypatch.setattr(content, "parts_of_rows", lambda device, batch, threads, parts=parts: parts)
        assert ops.topk_content(memory, row_norms(memory), torch.ones(1, 1, 4), 3, 23).tolist() == [[[0, 1, 2]]]


@pytest.mark.parametrize("store", [None, torch.bfloat16], ids=str)
@sizes
@dtypes
def test_sparse_write_and_rollback(size, dtype, store):
    if store is not None and dtype is torch.float64:
        pytest.skip("rows are stored as bfloat16 for float32 only")
    batch, slots, width, heads, support = size
    memory, norms = make_memory(batch, slots, width, dtype, store)
    twin_memory, twin_norms = memory.clone(), norms.clone()
    starts, journals = [], []
    for _ in range(3):
        index, erased = torch.randint(0, slots, (batch, heads, support)), torch.randint(-1, slots, (batch, heads))
        weights, values = torch.rand(batch, heads, support, dtype=dtype), torch.randn(batch, heads, width, dtype=dtype)
        starts.append((memory.clone(), norms.clone()))
        journal = ops.sparse_write(memory, norms, index, weights, values, erased)
        expected = reference.sparse_write(twin_memory, twin_norms, index, weights, values, erased)
        journals.append(journal)
        assert torch.equal(journal.rows, expected.rows)
        close(journal.content, expected.content, store or dtype)
        close(memory, twin_memory, store or dtype)
        close(norms, twin_norms, store or dtype)
        close(norms, row_norms(memory.to(dtype)), dtype)
    end, end_norms = memory.clone(), norms.clone()
    undone = []
    for start, journal in zip(reversed(starts), reversed(journals), strict=True):
        undone.append(ops.rollback(memory, norms, journal))
        assert torch.equal(memory, start[0])
        assert torch.equal(norms, start[1])
    for journal in reversed(undone):
        ops.rollback(memory, norms, journal)
    assert torch.equal(memory, end)
    assert torch.equal(norms, end_norms)


def test_bfloat16_rows_are_searched_and_read():
    memory, norms = make_memory(2, 31, 33, torch.float32, torch.bfloat16)
    queries, weights = torch.randn(2, 3, 33), torch.rand(2, 3, 4)
    index = ops.topk_content(memory, norms, queries, 4, 31)
    assert torch.equal(index, reference.topk_content(memory, norms, queries, 4, 31))
    close(ops.sparse_read(memory, index, weights), reference.sparse_read(memory, index, weights), torch.float32)


def test_lru_ring_equals_a_list_is_undone_and_made_again():
    generator = torch.Generator().manual_seed(0)
    ring, naive = ops.LruRing(1, ROWS), list(range(ROWS))
    for round_ in range(30):
        trace = [
            None if draw == 0 else [(int(row), bool(on)) for row, on in torch.randint(0, ROWS, (3, 2), generator=generator)]
            for draw in torch.randint(0, 3, (60 * (round_ % 3),), generator=generator).tolist()
        ]
        mark, before = ring.begin(log=True), ring.last.clone()
        start = naive.copy()
        replay(ring, naive, trace)
        end, log = ring.mark(), ring.end_log()
        ring.undo(mark, log)
        assert torch.equal(ring.last, before)
        assert ring.order().tolist() == [start]
        ring.redo(end)
        assert ring.order().tolist() == [naive]


def dense(columns, values, rows):
    """Sparse vectors [..., S] with repeated columns as full ones [..., N]."""
    full = values.new_zeros(*values.shape[:-1], rows + 1)
    return full.scatter_add_(-1, torch.where(columns < 0, rows, columns).long(), values)[..., :-1]


@pytest.mark.parametrize(("batch", "slots", "entries"), [(1, 2, 1), (2, 9, 3), (3, 13, 8), (1, 5, 7)])
@dtypes
def test_links(batch, slots, entries, dtype):
    linked, twin = (reference.SparseLinks.empty(batch, slots, entries, dtype) for _ in range(2))
    precedence = (torch.full((batch, entries), -1), torch.zeros(batch, entries, dtype=dtype))
    count = min(entries, slots)
    for _ in range(40):
        rows = torch.full((batch, entries), -1)
        rows[:, :count] = torch.stack([torch.randperm(slots)[:count] for _ in range(batch)])
        weights = torch.where(rows < 0, 0, torch.rand(batch, entries, dtype=dtype) / entries)
        before = [tensor.clone() for tensor in vars(linked).values()]
        undo = ops.link_update(linked, precedence, (rows, weights))
        reference.link_update(twin, precedence, (rows, weights))
        after = [tensor.clone() for tensor in vars(linked).values()]
        for side in ("after", "before"):
            got, expected = (dense(getattr(x, f"{side}_columns"), getattr(x, f"{side}_values"), slots) for x in (linked, twin))
            close(got, expected, dtype)
        for state in (before, after):
            undo.toggle()
            assert all(torch.equal(a, b) for a, b in zip(vars(linked).values(), state, strict=True))
        index, read_weights = torch.randint(-1, slots, (batch, 2, 3)), torch.rand(batch, 2, 3, dtype=dtype)
        for got, expected in zip(ops.link_read(linked, index, read_weights), reference.link_read(twin, index, read_weights), strict=True):
            close(dense(*got, slots), dense(*expected, slots), dtype)
        merged = reference.add_sparse(precedence[0], precedence[1] * (1 - weights.sum(1, keepdim=True)), rows, weights)
        precedence = reference.largest_entries(*merged, entries=entries)


@pytest.mark.parametrize(("batch", "slots", "entries", "steps"), [(1, 14, 1, 3), (2, 19, 3, 8), (3, 31, 8, 5), (1, 14, 2, 0)])
@dtypes
def test_link_steps(batch, slots, entries, steps, dtype):
    linked, twin = (reference.SparseLinks.empty(batch, slots, entries, dtype) for _ in range(2))
    heads, reads = 3, 2
    written = torch.stack([torch.randperm(slots)[:7] for _ in range(steps * batch)] or [torch.zeros(7).long()])
    written = written[: steps * batch].view(steps, batch, 7)
    written[:, :, 2] = -1
    weights = torch.rand(steps, batch, 7, dtype=dtype) / 7
    index, read_weights = torch.randint(-1, slots, (steps, batch, heads, reads)), torch.rand(steps, batch, heads, reads, dtype=dtype)
    weights[:, :, 2] = 0
    start = (torch.full((batch, entries), -1), torch.zeros(batch, entries, dtype=dtype))
    got = ops.link_steps(linked, start, written, weights, index, read_weights)
    if steps == 0:
        assert got[0][0].shape == (0, batch, heads, reads * entries)
        assert torch.equal(got[2][0], start[0])
        return
    expected = reference.link_steps(twin, start, written, weights, index, read_weights)
    for mine, other in zip(got, expected, strict=True):
        close(dense(*mine, slots), dense(*other, slots), dtype)


def arguments(name, batch=2, dtype=torch.float32):
    """Sound arguments of each op, B, N = 7, W = 3, R = 2, K = 4, L = 5."""
    memory, norms = make_memory(batch, 7, 3, dtype)
    index, weights = torch.randint(0, 7, (batch, 2, 4)), torch.rand(batch, 2, 4, dtype=dtype)
    matrices = vars(reference.SparseLinks.empty(batch, 7, 5, dtype)).values()
    last, queue = torch.arange(7, dtype=torch.int32).repeat(batch, 1), torch.zeros(batch, 20, dtype=torch.int32)
    some = torch.arange(5).repeat(batch, 1), torch.rand(batch, 5, dtype=dtype)
    rows = torch.arange(4).repeat(batch, 1)
    return {
        "topk_content": (memory, norms, torch.randn(batch, 2, 3, dtype=dtype), 3, 5, True),
        "sparse_read": (memory, index, weights),
        "sparse_read_back": (memory, index, weights, torch.randn(batch, 2, 3, dtype=dtype), True),
        "sparse_write": (memory, norms, index, weights, torch.randn(batch, 2, 3, dtype=dtype), index[:, :, 0]),
        "rollback": (memory, norms, rows, torch.randn(batch, 4, 3, dtype=dtype), torch.rand(batch, 4, dtype=dtype)),
        "lru_touch": (last, queue, rows, 9),
        "lru_pop": (last, queue, torch.zeros(batch, dtype=torch.int64), None, 7),
        "lru_undo": (last, queue, torch.zeros(batch, 2, dtype=torch.int32), 9),
        "link_update": (*matrices, *some, *some),
        "link_read": (*matrices, index, weights),
        "link_steps": (
            *matrices,
            *some,
            torch.arange(7).repeat(3, batch, 1),
            torch.rand(3, batch, 7, dtype=dtype),
            torch.arange(6).repeat(3, batch, 1).view(3, batch, 2, 3),
            torch.rand(3, batch, 2, 3, dtype=dtype),
        ),
    }[name]


NAMES = [
    "topk_content",
    "sparse_read",
    "sparse_read_back",
    "sparse_write",
    "rollback",
    "lru_touch",
    "lru_pop",
    "lru_undo",
    "link_update",
    "link_read",
    "link_steps",
]
names = pytest.mark.parametrize("name", NAMES)


def operator(name):
    return getattr(torch.ops.mann_bench, name).default


def implementation(name):
    return next(getattr(module, f"_{name}") for module in (content, links, lru_ring, reading, sparse_rows) if hasattr(module, f"_{name}"))


@names
def test_opcheck(name):
    torch.library.opcheck(operator(name), arguments(name))


def test_opcheck_of_gradients():
    memory, index, weights = arguments("sparse_read")
    torch.library.opcheck(operator("sparse_read"), (memory.requires_grad_(), index, weights.requires_grad_()))


def test_opcheck_of_undoing_links():
    matrices, journal = arguments("link_update")[:4], operator("link_update")(*arguments("link_update"))
    torch.library.opcheck(operator("link_swap"), (*matrices, *journal, False))


@names
def test_an_empty_batch_is_no_work(name):
    result = operator(name)(*arguments(name, batch=0))
    for tensor in result if isinstance(result, tuple) else (result,):
        assert tensor is None or 0 in tensor.shape


@names
def test_every_tensor_argument_is_checked(name):
    sound = arguments(name)
    for place, argument in enumerate(sound):
        if not isinstance(argument, torch.Tensor):
            continue
        wrong = {
            "dtype": argument.bool(),
            "rank": argument.unsqueeze(0),
            "device": torch.empty_like(argument, device="meta"),
            "batch": argument[:1] if place else argument[:, :1],
        }
        for what, bad in wrong.items():
            function = (
                implementation(name) if what == "device" else operator(name)
            )  # torch sends any call with a meta tensor to the fake kernel
            with pytest.raises(ValueError, match=rf"{name.removesuffix('_back')}: .*expected .*, got "):
                function(*sound[:place], bad, *sound[place + 1 :])


@names
def test_rows_out_of_range_are_reported(name):
    sound = arguments(name)
    checked = 0
    for place, argument in enumerate(sound):
        if not isinstance(argument, torch.Tensor) or argument.dtype is not torch.int64 or (name, place) == ("lru_pop", 2):
            continue
        bad = argument.clone()
        bad.view(-1)[-1] = 7
        with pytest.raises(ValueError, match=rf"{name.removesuffix('_back')}: .*: expected rows .*0\.\.6, got 7"):
            operator(name)(*sound[:place], bad, *sound[place + 1 :])
        checked += 1
    assert checked or name in ("topk_content", "lru_pop", "lru_undo")


def test_changed_arguments_must_be_contiguous():
    memory, norms, *rest = arguments("sparse_write")
    with pytest.raises(ValueError, match=r"sparse_write: memory: expected a contiguous .*, got non-contiguous"):
        ops.sparse_write(memory.transpose(0, 1).contiguous().transpose(0, 1), norms, *rest)
    journal = ops.sparse_write(memory, norms, *(tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in rest))
    assert journal.rows.shape == (2, 10)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_stay_in_their_batch_element(value):
    memory, norms, queries, *rest = arguments("topk_content")[:-1]
    bad = queries.clone()
    bad[0, 0] = value
    index = ops.topk_content(memory, norms, bad, *rest)
    assert ((index >= -1) & (index < 5)).all()
    assert torch.equal(index[1], ops.topk_content(memory, norms, queries, *rest)[1])
    bad_memory = memory.clone()
    bad_memory[0, 2] = value
    index = ops.topk_content(bad_memory, row_norms(bad_memory), queries, *rest)
    assert ((index >= -1) & (index < 5)).all()

    linked, precedence = reference.SparseLinks.empty(2, 7, 5, torch.float32), (torch.arange(5).repeat(2, 1), torch.full((2, 5), value))
    before = [tensor.clone() for tensor in vars(linked).values()]
    undo = ops.link_update(linked, precedence, precedence)
    undo.toggle()
    assert all(torch.equal(a, b) for a, b in zip(vars(linked).values(), before, strict=True))

    memory, norms, index, weights, values, erased = arguments("sparse_write")
    start = memory.clone()
    weights[0, 0, 0] = value
    journal = ops.sparse_write(memory, norms, index, weights, values, erased)
    ops.rollback(memory, norms, journal)
    assert torch.equal(memory, start)


def test_a_broken_ring_is_reported():
    ring = ops.LruRing(1, 5)
    ring.last.fill_(99)
    with pytest.raises(ValueError, match="last"):
        ring.pop()
    with pytest.raises(ValueError, match="tail: expected"):
        lru_ring._lru_touch_op(ring.last, ring.queue, torch.zeros(1, 3, dtype=torch.int64), 2000)


def test_gradients_that_would_be_lost_are_refused():
    memory, norms, index, weights, values, erased = arguments("sparse_write")
    with pytest.raises(ValueError, match="weights: expected a tensor without gradient"):
        ops.sparse_write(memory, norms, index, weights.requires_grad_(), values, erased)


def test_a_row_changed_before_backward_is_noticed():
    memory, norms, *rest = arguments("sparse_write")
    read = ops.sparse_read(memory, rest[0], rest[1].clone().requires_grad_())
    ops.sparse_write(memory, norms, *rest)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        read.sum().backward()


def step(memory, norms, queries, values, weights):
    """Search, write and read, as a sparse model does in a step."""
    index = ops.topk_content(memory, norms, queries, 3, 7)
    with torch.no_grad():
        journal = ops.sparse_write(memory, norms, index, weights.detach(), values, index[:, :, 0])
        ops.rollback(memory, norms, journal)
    return ops.sparse_read(memory, index, weights) + queries


def test_compiles_without_a_graph_break(emulated):
    if emulated:
        pytest.skip("one build is enough")
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    memory, norms = make_memory(2, 7, 3, torch.float32)
    queries, values = torch.randn(2, 2, 3), torch.randn(2, 2, 3)
    results = []
    for function in (step, compiled):
        weights = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
        out = function(memory, norms, queries, values, weights)
        out.sum().backward()
        results.append((out.detach(), weights.grad))
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected)
