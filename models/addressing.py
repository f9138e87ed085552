"""Addressing: how keys, gates and usage become weights over the N rows of a memory. Pure functions, batch first, any float dtype.

Shapes: memory `[B, N, W]`, weights `[B, R, N]`, one entry per head and row; V: write heads.

Sources: [N] Graves et al. 2014, "Neural Turing Machines"; [D] Graves et al. 2016, "Hybrid computing using a neural network with dynamic
external memory", Methods.
"""

import functools

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mann_bench.kernels.reference import EPSILON, row_norms
from mann_bench.models.row_products import dot_rows, score_rows, sum_over_rows


def content_weights(memory: Tensor, keys: Tensor, strengths: Tensor, absent: Tensor | None = None) -> Tensor:
    """Compute the softmax over rows of strength times cosine similarity ([N] eq 5, 6; [D] C(M, k, beta)).

    memory [B, N, W], keys [B, R, W], strengths [B, R] -> [B, R, N]. Norms contain an epsilon: zero rows and keys have similarity 0.
    absent bool [B, N]: rows that have no weight.
    """
    scale = strengths / row_norms(keys)
    similarity = score_rows(keys * scale.unsqueeze(-1), memory)
    scores = similarity / row_norms(memory).unsqueeze(1)
    return torch.softmax(scores if absent is None else scores.masked_fill(absent.unsqueeze(1), -torch.inf), dim=-1)


def interpolate(weights: Tensor, previous: Tensor, gate: Tensor) -> Tensor:
    """Compute `g w + (1 - g) w_{t-1}` ([N] eq 7): [B, R, N], [B, R, N], gate [B, R] -> [B, R, N]."""
    return torch.lerp(previous, weights, gate.unsqueeze(-1))


def shift_convolve(weights: Tensor, shifts: Tensor) -> Tensor:
    """Compute the circular convolution `w(i) = sum_j w(j) s(i - j mod N)` ([N] eq 8).

    weights [B, R, N], shifts [B, R, S] with S odd: the probabilities of moving by -(S-1)/2 .. (S-1)/2 rows -> [B, R, N].
    """
    reach = shifts.shape[-1] // 2
    rolled = [torch.roll(weights, move, dims=-1) * shifts[..., move + reach, None] for move in range(-reach, reach + 1)]
    return torch.stack(rolled).sum(0) if len(rolled) > 3 else sum(rolled[1:], rolled[0])


def sharpen(weights: Tensor, gamma: Tensor) -> Tensor:
    """Compute `w(i)^gamma / sum_j w(j)^gamma` ([N] eq 9), as a softmax of logarithms so that no power underflows.

    weights [B, R, N], gamma [B, R] -> [B, R, N].
    """
    return torch.softmax(gamma.unsqueeze(-1) * torch.log(weights + torch.finfo(weights.dtype).tiny), dim=-1)


def usage_update(usage: Tensor, write_weights: Tensor, read_weights: Tensor, free_gates: Tensor) -> Tensor:
    """Compute `u = (u + w - u w) psi`, `psi = prod_r (1 - f_r w_r)` ([D]).

    usage and write_weights [B, N], read_weights [B, R, N], free_gates [B, R] -> [B, N]. The weights are those of the previous step.
    """
    retention = product_over_heads(1 - free_gates.unsqueeze(-1) * read_weights)
    return (usage + write_weights - usage * write_weights) * retention


def product_over_heads(factors: Tensor) -> Tensor:
    """Multiply the factors of all heads: [B, R, N] -> [B, N]."""
    if not factors.is_cuda:
        return torch.prod(factors, dim=1)
    return functools.reduce(torch.mul, factors.unbind(1))  # the backward of torch.prod has the host wait for the number of zeros


def allocation(usage: Tensor) -> Tensor:
    """Compute weights over free rows, the least used first ([D]): usage [B, N] -> [B, N], sum at most 1.

    The sort is a constant for the gradient, as in the paper; usage is squeezed into [eps, 1] as in DeepMind's implementation,
    which keeps the gradient of the product finite at usage 0.
    """
    squeezed = EPSILON + (1 - EPSILON) * usage
    ordered, order = torch.sort(squeezed, dim=-1, stable=True)
    product_of_smaller: Tensor = _CumulativeProduct.apply(functional.pad(ordered, (1, 0), value=1.0)[:, :-1])
    return torch.zeros_like(usage).scatter(-1, order, (1 - ordered) * product_of_smaller)


def temporal_link(link: Tensor, precedence: Tensor, write_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Update the link matrix: `L(i,j) = (1 - w(i) - w(j)) L(i,j) + w(i) p(j)`, zero diagonal, then `p = (1 - sum w) p + w` ([D]).

    link [B, N, N] (row: after, column: before), precedence [B, N] p_{t-1}, write_weights [B, N] -> link, precedence. For backward, the old
    link is saved and no other N x N tensor.
    """
    new_precedence = (1 - write_weights.sum(-1, keepdim=True)) * precedence + write_weights
    return _TemporalLink.apply(link, precedence, write_weights), new_precedence


def forward_backward_weights(link: Tensor, read_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `f = L w`, `b = L^T w` ([D]): link [B, N, N], read_weights [B, R, N] of the previous step -> forward, backward [B, R, N]."""
    return read_weights @ link.transpose(1, 2), read_weights @ link


def erase_and_add(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """Compute `M(i) prod_v (1 - w_v(i) e_v) + sum_v w_v(i) a_v` ([N] eq 3, 4; [D]): all erases, then all adds.

    memory [B, N, W], weights [B, V, N], erase and add [B, V, W] -> [B, N, W]. Backward needs the old memory, which the previous step
    holds anyway, and recomputes the erase factors: one memory copy a step instead of three.
    """
    new_memory: Tensor = _EraseAndAdd.apply(memory, weights, erase, add)
    return new_memory


class _EraseAndAdd(torch.autograd.Function):
    @staticmethod
    def forward(ctx, memory, weights, erase, add):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(memory, weights, erase, add)
        result = _keep(weights, erase, 0).mul_(memory)
        for head in range(1, weights.shape[1]):
            result.mul_(_keep(weights, erase, head))
        return result.baddbmm_(weights.transpose(1, 2), add)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        memory, weights, erase, add = ctx.saved_tensors
        heads = weights.shape[1]
        grad_add = sum_over_rows(weights, grad)
        grad_weights = dot_rows(add, grad)
        grad_erase = torch.empty_like(erase)
        keeps = [_keep(weights, erase, head) for head in range(heads)]
        for head in range(heads):
            grad_keep = grad * memory  # [B, N, W]
            for other in range(heads):
                if other != head:
                    grad_keep *= keeps[other]
            grad_erase[:, head] = -sum_over_rows(weights[:, head : head + 1], grad_keep)[:, 0]
            grad_weights[:, head] -= (grad_keep @ erase[:, head].unsqueeze(-1))[..., 0]
        grad_memory = keeps[0].mul_(grad)
        for keep in keeps[1:]:
            grad_memory *= keep
        return grad_memory, grad_weights, grad_erase, grad_add


def _keep(weights: Tensor, erase: Tensor, head: int) -> Tensor:
    """Compute `1 - w e^T` of one write head: [B, N, W]."""
    if weights.is_cuda:  # in one pass over the memory instead of three
        return torch.addcmul(weights.new_ones(()), weights[:, head].unsqueeze(-1), erase[:, head].unsqueeze(1), value=-1)
    outer = weights[:, head].unsqueeze(-1) * erase[:, head].unsqueeze(1)
    return outer.neg_().add_(1)


class _CumulativeProduct(torch.autograd.Function):
    """torch.cumprod of rows without zeros. Its own backward has the host wait to learn that there are none."""

    @staticmethod
    def forward(ctx, factors):  # type: ignore[no-untyped-def]
        products = torch.cumprod(factors, dim=-1)
        ctx.save_for_backward(factors, products)
        return products

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        factors, products = ctx.saved_tensors
        return (products * grad).flip(-1).cumsum(-1).flip(-1) / factors


class _TemporalLink(torch.autograd.Function):
    @staticmethod
    def forward(ctx, link, precedence, write_weights):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(link, precedence, write_weights)
        result = _link_decay(write_weights).mul_(link)
        result.baddbmm_(write_weights.unsqueeze(-1), precedence.unsqueeze(1))
        result.diagonal(dim1=1, dim2=2).zero_()
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        link, precedence, write_weights = ctx.saved_tensors
        grad = grad.clone()
        grad.diagonal(dim1=1, dim2=2).zero_()
        grad_precedence = (write_weights.unsqueeze(1) @ grad)[:, 0]
        grad_write = (grad @ precedence.unsqueeze(-1))[..., 0]
        decayed = grad * link
        grad_write -= decayed.sum(2) + decayed.sum(1)
        return grad.mul_(_link_decay(write_weights)), grad_precedence, grad_write


def _link_decay(write_weights: Tensor) -> Tensor:
    """Compute `1 - w(i) - w(j)`: [B, N] -> [B, N, N]."""
    return (1 - write_weights).unsqueeze(-1) - write_weights.unsqueeze(1)
