"""Row-sparse links: sums, cuts, invariants and exact undo."""

import pytest
import torch

from mann_bench.kernels.reference import SparseLinks, add_sparse, largest_entries, link_read, link_update


def test_largest_entries_keeps_the_largest_and_pads():
    columns, values = largest_entries(torch.tensor([[4, 7, 9]]), torch.tensor([[0.1, 0.5, 0.0]]), 2)
    assert columns.tolist() == [[7, 4]]
    torch.testing.assert_close(values, torch.tensor([[0.5, 0.1]]))
    columns, _ = largest_entries(torch.tensor([[4, 7]]), torch.tensor([[0.1, 0.0]]), 4)
    assert columns.tolist() == [[4, -1, -1, -1]]


def test_add_sparse_joins_shared_columns():
    columns, values = add_sparse(
        torch.tensor([[2, 5, -1]]), torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[5, 3]]), torch.tensor([[10.0, 20.0]])
    )
    total = {int(c): float(v) for c, v in zip(columns[0], values[0], strict=True) if c >= 0}
    assert total == {2: 1.0, 5: 12.0, 3: 20.0}


def test_update_keeps_zero_diagonal_row_sums_and_undoes_exactly():
    links = SparseLinks.empty(2, 9, 3, torch.float32)
    precedence = (torch.full((2, 3), -1), torch.zeros(2, 3))
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        rows = torch.stack([torch.randperm(9, generator=generator)[:3] for _ in range(2)])
        weights = torch.rand(2, 3, generator=generator) / 3
        before = [links.after_columns, links.after_values, links.before_columns, links.before_values]
        before = [t.clone() for t in before]
        undo = link_update(links, precedence, (rows, weights))
        after = [t.clone() for t in (links.after_columns, links.after_values, links.before_columns, links.before_values)]
        undo.toggle()
        assert all(
            torch.equal(a, b)
            for a, b in zip(before, (links.after_columns, links.after_values, links.before_columns, links.before_values), strict=True)
        )
        undo.toggle()
        assert all(
            torch.equal(a, b)
            for a, b in zip(after, (links.after_columns, links.after_values, links.before_columns, links.before_values), strict=True)
        )
        decayed = precedence[1] * (1 - weights.sum(1, keepdim=True))
        precedence = largest_entries(*add_sparse(precedence[0], decayed, rows, weights), entries=3)
        own = torch.arange(9).view(1, 9, 1)
        assert not (links.after_columns == own).any()
        assert not (links.before_columns == own).any()
        assert float(links.after_values.sum(-1).max()) <= 1 + 1e-5
        assert float(precedence[1].sum(1).max()) <= 1 + 1e-5
        forward, backward = link_read(links, rows.unsqueeze(1), weights.unsqueeze(1))
        assert float(backward[1].sum(-1).max()) <= 1 + 1e-5
        assert (forward[1] >= 0).all()


def test_places_beyond_int32_are_refused():
    with pytest.raises(ValueError, match=r"slots, link_entries: expected at most 2147483647 links .*, got 268435456 x 8"):
        SparseLinks.empty(1, 2**28, 8, torch.float32, "meta")
    assert SparseLinks.empty(1, 2**28 - 1, 8, torch.float32, "meta").after_values.shape == (1, 2**28 - 1, 8)
