"""Addressing functions: against plain loops, their gradients, their invariants, at the edges."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from mann_bench.models import addressing as A
from tests.support import golden


def rand(*shape: int, low: float = 0.0) -> Tensor:
    return (torch.rand(*shape, dtype=torch.float64) * (1 - low) + low).requires_grad_()


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def weights(*shape: int) -> Tensor:
    return torch.softmax(torch.randn(*shape, dtype=torch.float64), -1).requires_grad_()


FUNCTIONS: dict[str, Any] = {
    "content_weights": lambda: (A.content_weights, (normal(2, 5, 3), normal(2, 2, 3), rand(2, 2))),
    "interpolate": lambda: (A.interpolate, (weights(2, 2, 5), weights(2, 2, 5), rand(2, 2))),
    "shift_convolve": lambda: (A.shift_convolve, (weights(2, 2, 5), weights(2, 2, 3))),
    "shift_convolve_far": lambda: (A.shift_convolve, (weights(2, 2, 5), weights(2, 2, 5))),
    "sharpen": lambda: (A.sharpen, (weights(2, 2, 5), rand(2, 2, low=0.5))),
    "usage_update": lambda: (A.usage_update, (rand(2, 5), weights(2, 5), weights(2, 2, 5), rand(2, 2))),
    "allocation": lambda: (A.allocation, (rand(2, 5),)),
    "temporal_link": lambda: (A.temporal_link, (rand(2, 4, 4), rand(2, 4), weights(2, 4))),
    "forward_backward_weights": lambda: (A.forward_backward_weights, (rand(2, 4, 4), weights(2, 2, 4))),
    "erase_and_add": lambda: (A.erase_and_add, (normal(2, 5, 3), weights(2, 1, 5), rand(2, 1, 3), normal(2, 1, 3))),
    "erase_and_add_3_heads": lambda: (A.erase_and_add, (normal(2, 5, 3), weights(2, 3, 5), rand(2, 3, 3), normal(2, 3, 3))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradcheck(name):
    function, arguments = FUNCTIONS[name]()
    assert gradcheck(function, arguments)


class OnGpu(Tensor):
    """A tensor that says so."""

    is_cuda = True


def test_products_over_heads_are_the_same_on_a_gpu():
    """A factor of 0 included, where torch.prod has another formula for the gradient."""
    factors = torch.rand(2, 3, 5, dtype=torch.float64)
    factors[0, 1, 2] = factors[1, :2, 4] = 0
    own, of_torch = (factors.clone().requires_grad_() for _ in range(2))
    torch.testing.assert_close(A.product_over_heads(own.as_subclass(OnGpu)).as_subclass(Tensor), A.product_over_heads(of_torch))
    weights = torch.rand(2, 5, dtype=torch.float64)
    for leaf, kind in ((own, OnGpu), (of_torch, Tensor)):
        (A.product_over_heads(leaf.as_subclass(kind)).as_subclass(Tensor) * weights).sum().backward()
    torch.testing.assert_close(own.grad, of_torch.grad)


def test_the_gradient_of_the_cumulative_product_is_that_of_torch_to_the_bit():
    factors, grad = torch.rand(3, 41).clamp_min(1e-6).requires_grad_(), torch.randn(3, 41)
    own, of_torch = (
        torch.autograd.grad(product, factors, grad)[0] for product in (A._CumulativeProduct.apply(factors), factors.cumprod(-1))
    )
    assert torch.equal(own, of_torch)


def test_content_weights_against_loops():
    memory, keys, strengths = normal(2, 5, 3), normal(2, 2, 3), rand(2, 2)
    got = A.content_weights(memory, keys, strengths).detach()
    for b in range(2):
        for k in range(2):
            expected = golden.content(memory[b].detach().numpy(), keys[b, k].detach().numpy(), float(strengths[b, k].detach()))
            np.testing.assert_allclose(got[b, k], expected, atol=1e-12)


def test_sharpen_shift_and_allocation_against_loops():
    w, s, g = weights(1, 1, 6), weights(1, 1, 3), torch.tensor([[2.5]], dtype=torch.float64)
    shifted = [sum(float(w[0, 0, (i - m) % 6].detach()) * float(s[0, 0, m + 1].detach()) for m in (-1, 0, 1)) for i in range(6)]
    np.testing.assert_allclose(A.shift_convolve(w.detach(), s.detach())[0, 0], shifted, atol=1e-12)
    power = w.detach()[0, 0].numpy() ** 2.5
    np.testing.assert_allclose(A.sharpen(w.detach(), g)[0, 0], power / power.sum(), atol=1e-12)
    usage = rand(1, 6).detach()
    np.testing.assert_allclose(A.allocation(usage)[0], golden.allocation(usage[0].numpy()), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("beta", [0.0, 1.0, 1e4])
def test_extreme_strengths_and_zero_vectors_stay_finite(dtype, beta):
    memory = torch.zeros(1, 3, 4, dtype=dtype).requires_grad_()
    keys = torch.zeros(1, 1, 4, dtype=dtype).requires_grad_()
    w = A.content_weights(memory, keys, torch.full((1, 1), beta, dtype=dtype))
    w.square().sum().backward()
    assert torch.isfinite(w).all()
    assert memory.grad is not None
    assert keys.grad is not None
    assert torch.isfinite(memory.grad).all()
    assert torch.isfinite(keys.grad).all()
    one_hot = torch.tensor([[[1.0, 0, 0]]], dtype=dtype).requires_grad_()
    sharp = A.sharpen(one_hot, torch.full((1, 1), max(beta, 1), dtype=dtype))
    sharp.sum().backward()
    assert torch.isfinite(sharp).all()
    assert one_hot.grad is not None
    assert torch.isfinite(one_hot.grad).all()


@pytest.mark.parametrize("usage", [[0.0] * 4, [1.0] * 4, [0.5] * 4, [0.0, 1.0, 0.0, 1.0], [0.3]])
def test_allocation_at_equal_usages(usage):
    u = torch.tensor([usage], dtype=torch.float64, requires_grad=True)
    a = A.allocation(u)
    a.square().sum().backward()
    assert u.grad is not None
    assert torch.isfinite(u.grad).all()
    assert (a >= 0).all()
    assert float(a.detach().sum()) <= 1 + 1e-12


def test_one_slot():
    w = A.content_weights(normal(1, 1, 3), normal(1, 1, 3), rand(1, 1))
    assert torch.allclose(w, torch.ones_like(w))
    assert torch.allclose(A.shift_convolve(w, weights(1, 1, 3)), w)
    assert torch.allclose(A.sharpen(w, rand(1, 1)), w)
    link, precedence = A.temporal_link(
        torch.zeros(1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    )
    assert link.item() == 0
    assert precedence.item() == 1


def test_link_usage_and_precedence_invariants():
    link, precedence, usage = torch.zeros(3, 7, 7), torch.zeros(3, 7), torch.zeros(3, 7)
    for _ in range(60):
        write = torch.softmax(3 * torch.randn(3, 7), -1) * torch.rand(3, 1)
        read = torch.softmax(torch.randn(3, 2, 7), -1)
        usage = A.usage_update(usage, write, read, torch.rand(3, 2))
        link, precedence = A.temporal_link(link, precedence, write)
        assert (link.diagonal(dim1=1, dim2=2) == 0).all()
        assert (link >= 0).all()
        assert float(link.sum(1).max()) <= 1 + 1e-5
        assert float(link.sum(2).max()) <= 1 + 1e-5
        assert float(precedence.sum(1).max()) <= 1 + 1e-5
        assert float(usage.min()) >= 0
        assert float(usage.max()) <= 1
        forward, backward = A.forward_backward_weights(link, read)
        assert float(torch.stack([forward, backward]).sum(-1).max()) <= 1 + 1e-5
