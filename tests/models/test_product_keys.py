"""Product keys: exact, in a total order, and differentiable at the slots found."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mann_bench.kernels.reference.product_keys import candidate_ranks, largest_side, search, slots_near
from mann_bench.models.slots.product_keys import scores_of, sides_of
from tests.support.golden_sdm import all_scores, best_slots

numbers = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 1e-9, 1e20, -1e20, math.inf, -math.inf, math.nan])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_equals_a_search_of_all_slots_with_ties_and_nan(data: Any):
    sides = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    count = data.draw(st.integers(1, math.prod(sides)))
    scores = torch.tensor(data.draw(st.lists(numbers, min_size=sum(sides), max_size=sum(sides))))
    assert search(scores, sides, count).tolist() == best_slots(scores, sides, count)


def check_random(queries: int, side: int, count: int, dtype: torch.dtype, levels: int | None = None) -> None:
    """Compare with the stable order of all N sums; in each factor the scores are sorted, so that slots are numbered by their ranks."""
    generator = torch.Generator().manual_seed(queries + side)
    scores = torch.randn(queries, 2, side, generator=generator, dtype=torch.float32).to(dtype)
    if levels:  # so that most scores and sums are equal to others
        scores = (scores * levels).round() / levels
    scores = scores.sort(dim=-1, descending=True, stable=True).values
    sums = (scores[:, 0].unsqueeze(2) + scores[:, 1].unsqueeze(1)).flatten(1)
    expected = sums.sort(dim=-1, descending=True, stable=True).indices[:, :count]
    assert torch.equal(search(scores.flatten(1), (side, side), count), expected)


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize(("side", "count", "dtype"), [(16, 16, torch.float32), (32, 4, torch.bfloat16), (5, 25, torch.float64)])
def test_random_queries(side, count, dtype, levels):
    check_random(1000, side, count, dtype, levels)


@pytest.mark.slow
def test_a_million_random_queries():
    for part in range(100):
        check_random(10_000 + part, 16, 8, torch.float32, 4 if part % 2 else None)


def test_scores_have_their_gradients():
    scores, sides = torch.randn(3, 2, 9, dtype=torch.float64, requires_grad=True), (2, 3, 4)
    slots = search(scores, sides, 5)
    dense = torch.stack([all_scores(row, sides) for row in scores.flatten(0, 1)]).view(3, 2, 24).gather(-1, slots)
    weight = torch.randn_like(dense)
    got = torch.autograd.grad((scores_of(scores, sides, slots) * weight).sum(), scores)
    torch.testing.assert_close(got, torch.autograd.grad((dense * weight).sum(), scores))


def test_few_candidates():
    assert len(candidate_ranks((2048, 2048), 64)) < 300
    assert candidate_ranks((2, 9), 3) == ((0, 0), (0, 1), (0, 2), (1, 0))
    assert [largest_side(slots, 2) for slots in (1, 3, 4, 99, 2**24, 2**52 - 1)] == [1, 1, 2, 9, 4096, 2**26 - 1]
    near = [(slots_near(1000, factors), slots_near(1000, factors, up=True)) for factors in (1, 2, 3, 4, "32x64", "8x", 0, True)]
    assert near == [(1000, 1000), (961, 1024), (1000, 1000), (625, 1296), (2048, 2048), *[(1000, 1000)] * 3]


@pytest.mark.parametrize(
    ("slots", "factors", "message"),
    [
        (1000, 2, "slots: expected a perfect square for product keys of 2 factors, as 961 or 1024, got 1000"),
        (1000, 4, "a power of 4 for product keys of 4 factors, as 625 or 1296, got 1000"),
        (1000, "10x10", "slots: expected 100, the product of factors = '10x10', got 1000"),
        (1000, "10*100", "factors: expected a number of factors, or their sizes as '32x64', got '10\\*100'"),
        (1000, 0, "factors: expected a whole number >= 1"),
    ],
)
def test_sizes_that_do_not_fit(slots, factors, message):
    with pytest.raises(ValueError, match=message):
        sides_of(slots, factors)


def test_sizes() -> None:
    assert sides_of(2**20, 2) == (1024, 1024)
    assert sides_of(1000, 3) == (10, 10, 10)
    assert sides_of(1000, "10x100") == (10, 100)


def test_a_place_is_kept_and_no_score():
    kept: list[Tensor] = []
    scores = torch.randn(7, 2 * 500, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):  # type: ignore[func-returns-value]
        scores_of(scores, (500, 500), search(scores, (500, 500), 4))
    assert all(tensor.numel() <= 7 * 4 for tensor in kept)
