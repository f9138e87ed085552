"""Every op on the GPU: the CPU's tests with the GPU as default device, results compared with the CPU's, and a search by the whole GPU."""

import pytest
import torch

from mann_bench.kernels import ops, reference
from mann_bench.kernels.reference import LshTables, row_norms
from tests.kernels.test_lsh import SIZES, make, near
from tests.kernels.test_ops import (  # noqa: F401  collected here again
    NAMES,
    arguments,
    operator,
    test_bfloat16_rows_are_searched_and_read,
    test_link_steps,
    test_links,
    test_nan_and_infinity_stay_in_their_batch_element,
    test_sparse_write_and_rollback,
    test_topk_content,
    test_topk_content_takes_the_first_of_equal_rows_whatever_the_number_of_parts,
)
from tests.support.gpu import no_wait


@pytest.fixture(autouse=True)
def on_the_gpu(gpu):
    with torch.device(gpu):
        yield


@pytest.mark.parametrize("batch", [1, 3, 200])
@pytest.mark.parametrize("name", NAMES)
def test_as_on_the_cpu(name, batch, gpu):
    """Compare results, and arguments that are changed in place."""
    with torch.device("cpu"):
        torch.manual_seed(0)
        here = arguments(name, batch)
    there = [argument.to(gpu) if isinstance(argument, torch.Tensor) else argument for argument in here]
    outcomes = []
    for given in (here, there):
        result = operator(name)(*given)
        outcomes.append([*(result if isinstance(result, tuple) else (result,)), *given])
    for expected, got in zip(*outcomes, strict=True):
        if isinstance(expected, torch.Tensor):
            torch.testing.assert_close(got.cpu(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("slots", "width"), [(2**20, 32), (1_000_003, 20)])
def test_the_whole_gpu_searches_one_memory(slots, width):
    memory, queries = torch.randn(1, slots, width), torch.randn(1, 4, width)
    norms = row_norms(memory)
    got = ops.topk_content(memory, norms, queries, 4, slots)
    scores = queries.double() @ memory.double().transpose(1, 2) / norms.double()[:, None]
    wanted = scores.topk(4, dim=-1)
    torch.testing.assert_close(scores.gather(2, got), wanted.values, rtol=1e-5, atol=1e-5)
    assert float((got == wanted.indices).double().mean()) > 0.9  # rows of nearly equal scores may come in either order


def test_a_ring_on_the_gpu(gpu):
    rings = [reference.LruRing(2, 13, "cpu"), ops.LruRing(2, 13, gpu)]
    generator = torch.Generator().manual_seed(0)
    with torch.device("cpu"):
        for _ in range(40):
            rows = torch.randint(0, 13, (2, 3), generator=generator)
            mask = torch.rand(2, 3, generator=generator) > 0.5
            popped = [ring.pop().cpu() for ring in rings]
            assert torch.equal(*popped)
            for ring in rings:
                ring.touch(rows.to(ring.last.device), mask.to(ring.last.device))
        assert torch.equal(rings[0].order(), rings[1].order().cpu())


def test_a_search_does_not_wait_for_the_gpu():
    memory, queries = torch.randn(1, 2**17, 32), torch.randn(1, 4, 32)
    norms = row_norms(memory)
    wanted = ops.topk_content(memory, norms, queries, 4, 2**17)
    torch.cuda.synchronize()
    with no_wait():
        got = ops.topk_content(memory, norms, queries, 4, 2**17)
    assert torch.equal(wanted, got)


@pytest.mark.parametrize(("size", "index"), SIZES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_hash_index_as_its_twin(size, index, dtype, gpu):
    """Build, update, query and undo as its twin on the CPU; in float32 a row close to a plane may fall on the other side of it."""
    batch, slots, _, heads, reads = size
    with torch.device("cpu"):
        memory, (plain, _) = make(size, index, dtype)
        rows, queries = torch.randint(-1, slots, (batch, 11)), near(memory, heads).to(dtype)
    fast = LshTables(*(tensor.to(gpu) for tensor in plain.tensors()))
    reference.lsh_fill(plain, memory, slots)
    ops.lsh_fill(fast, memory.to(gpu), slots)
    before = [tensor.clone() for tensor in fast.tensors()]
    memory += 0.5
    reference.lsh_update(plain, memory, rows)
    undo = ops.lsh_update(fast, memory.to(gpu), rows.to(gpu))
    exact = 1.0 if dtype is torch.float64 else 0.99
    assert float((fast.codes.cpu() == plain.codes).double().mean()) >= exact
    got = ops.lsh_query(fast, memory.to(gpu), queries.to(gpu), reads, index.rerank).cpu()
    wanted = reference.lsh_query(plain, memory, queries, reads, index.rerank)
    assert float((got == wanted).double().mean()) >= (1.0 if dtype is torch.float64 else 0.9)
    undo.toggle()
    assert all(torch.equal(now, old) for now, old in zip(fast.tensors(), before, strict=True))
