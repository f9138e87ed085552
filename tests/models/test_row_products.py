"""Products over all rows: the ones in parts, which a GPU takes, against the plain ones, with gradients."""

import pytest
import torch

from mann_bench.models import row_products

B, R, N, W = 2, 3, 24, 5


@pytest.fixture
def in_parts(monkeypatch):
    """The products of a GPU, on the CPU, with parts of 4 rows."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.setattr(row_products, "ROWS_OF_A_PART", 4)


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_products_and_gradients(in_parts):
    weights, rows, keys = drawn(B, R, N), drawn(B, N, W), drawn(B, R, W)
    torch.testing.assert_close(row_products.read_rows(weights, rows), weights @ rows)
    torch.testing.assert_close(row_products.score_rows(keys, rows), keys @ rows.transpose(1, 2))
    added = row_products.add_to_rows_(rows * 1, weights, keys)
    torch.testing.assert_close(added, rows + weights.transpose(1, 2) @ keys)
    assert torch.autograd.gradcheck(row_products.read_rows, (weights, rows))
    assert torch.autograd.gradcheck(row_products.score_rows, (keys, rows))
    assert torch.autograd.gradcheck(lambda *given: row_products.add_to_rows_(given[0] * 1, *given[1:]), (rows, weights, keys))


@pytest.mark.parametrize(("batch", "slots", "parts"), [(8, 2**20, 64), (1, 2**20, 512), (1, 1024, 4), (200, 2**20, 2), (600, 2**20, 1)])
def test_number_of_parts(batch, slots, parts):
    assert row_products.num_parts(batch, slots) == parts


@pytest.mark.parametrize("slots", [1, 255, 65537])
def test_few_rows_or_a_prime_number_of_them_are_not_divided(slots):
    assert row_products.num_parts(1, slots) == 1


@pytest.mark.parametrize("parts", [1, 2, 6, 24])
def test_parts_add_up(parts):
    weights, rows = drawn(B, R, N), drawn(B, N, W)
    torch.testing.assert_close(row_products.sum_in_parts(weights, rows, parts), weights @ rows)
