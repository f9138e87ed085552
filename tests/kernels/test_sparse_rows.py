"""Reading, writing and restoring a few rows."""

import torch

from mann_bench.kernels.reference import (
    WriteJournal,
    cosine_to_rows,
    erase_survivors,
    gather_rows,
    rollback,
    row_norms,
    sparse_read,
    sparse_write,
    topk_content,
)


def test_write_equals_head_by_head_loops_and_rolls_back_exactly():
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        memory = torch.randn(2, 5, 3, generator=generator)
        norms = row_norms(memory)
        index = torch.randint(0, 5, (2, 3, 4), generator=generator)
        weights = torch.rand(2, 3, 4, generator=generator)
        values = torch.randn(2, 3, 3, generator=generator)
        erased = torch.randint(-1, 5, (2, 3), generator=generator)
        expected = memory.clone()
        for b in range(2):
            for head in range(3):
                if erased[b, head] >= 0:
                    expected[b, erased[b, head]] = 0
                for s in range(4):
                    expected[b, index[b, head, s]] += weights[b, head, s] * values[b, head]
        before, norms_before = memory.clone(), norms.clone()
        journal = sparse_write(memory, norms, index, weights, values, erased)
        torch.testing.assert_close(memory, expected)
        torch.testing.assert_close(norms, row_norms(expected))
        undone = rollback(memory, norms, journal)
        assert torch.equal(memory, before)
        assert torch.equal(norms, norms_before)
        assert isinstance(undone, WriteJournal)
        rollback(memory, norms, undone)
        torch.testing.assert_close(memory, expected)


def test_a_later_erase_wipes_an_earlier_addition():
    index = torch.tensor([[[2, 1], [0, 2]]])
    assert erase_survivors(index, torch.tensor([[1, 2]])).tolist() == [[[False, True], [True, True]]]
    assert erase_survivors(index, torch.tensor([[1, -1]])).all()


def test_read_is_a_weighted_sum_without_missing_rows():
    memory = torch.arange(12.0).view(1, 4, 3)
    read = sparse_read(memory, torch.tensor([[[1, -1]]]), torch.tensor([[[0.5, 9.0]]]))
    assert read.tolist() == [[[1.5, 2.0, 2.5]]]
    assert gather_rows(memory, torch.tensor([[3, 0]])).tolist() == [[[9, 10, 11], [0, 1, 2]]]


def test_topk_orders_by_cosine_among_candidates_only():
    memory = torch.randn(2, 11, 4, dtype=torch.float64)
    queries = torch.randn(2, 3, 4, dtype=torch.float64)
    for candidates in (0, 2, 7, 11):
        exact = topk_content(memory, row_norms(memory), queries, 3, candidates)
        assert torch.equal(exact, topk_content(memory, row_norms(memory), queries, 3, candidates, scan_all=False))
        similarity = cosine_to_rows(queries, memory[:, None].expand(-1, 3, -1, -1))[..., :candidates]
        expected = similarity.argsort(dim=-1, descending=True)[..., :3]
        assert torch.equal(exact[..., : expected.shape[-1]], expected)
        assert (exact[..., candidates:] == -1).all()


def test_zero_rows_have_similarity_zero_and_finite_gradients():
    rows = torch.zeros(1, 1, 2, 3, requires_grad=True)
    similarity = cosine_to_rows(torch.ones(1, 1, 3), rows)
    similarity.sum().backward()
    assert similarity.tolist() == [[[0, 0]]]
    assert rows.grad is not None
    assert torch.isfinite(rows.grad).all()
