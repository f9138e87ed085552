"""Products of the dense models with all N rows of a memory: scores, reads and their gradients.

Plain products are slow on a GPU where N is large. One with N as its inner dimension (`read_rows`, and the gradients of keys and written
vectors) has few outputs, and cuBLAS gives each batch element a single block of the GPU: on an H100, with N = 1M and 8 elements, it takes
40 times as long as with the rows divided into parts whose sums are added up. `keys @ rows^T` takes 3.5 times as long as `rows @ keys^T`.
On a CPU these are the plain products.

Shapes: weights [B, R, N], one entry a head and row; rows [B, N, W]; keys and vectors [B, R, W]. Any float dtype.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PARTS = 512  # of all batch elements together: a few for each of a GPU's multiprocessors
ROWS_OF_A_PART = 256  # at least


def read_rows(weights: Tensor, rows: Tensor) -> Tensor:
    """Compute `weights @ rows` [B, R, W], differentiable in both."""
    if not rows.is_cuda:
        return weights @ rows
    read: Tensor = _ReadRows.apply(weights, rows)
    return read


def score_rows(keys: Tensor, rows: Tensor) -> Tensor:
    """Compute `keys @ rows^T` [B, R, N], differentiable in both."""
    if not rows.is_cuda:
        return keys @ rows.transpose(1, 2)
    scores: Tensor = _ScoreRows.apply(keys, rows)
    return scores


def add_to_rows_(rows: Tensor, weights: Tensor, vectors: Tensor) -> Tensor:
    """Add `weights^T @ vectors` to the rows in place, differentiable in all three; no backward may need the rows as they were."""
    if not rows.is_cuda:
        return rows.baddbmm_(weights.transpose(1, 2), vectors)
    added: Tensor = _AddToRows.apply(rows, weights, vectors)
    return added


def dot_rows(keys: Tensor, rows: Tensor) -> Tensor:
    """Compute `keys @ rows^T` [B, R, N], on a GPU from its transpose; not for autograd."""
    if not rows.is_cuda:
        return keys @ rows.transpose(1, 2)
    return (rows @ keys.transpose(1, 2)).transpose(1, 2).contiguous()


def sum_over_rows(weights: Tensor, rows: Tensor) -> Tensor:
    """Compute `weights @ rows` [B, R, W], on a GPU in parts; not for autograd."""
    if not rows.is_cuda:
        return weights @ rows
    return sum_in_parts(weights, rows, num_parts(rows.shape[0], rows.shape[1]))


def num_parts(batch: int, slots: int) -> int:
    """Choose into how many equal parts the N rows of each element are divided; 1 where N has no fitting divisor, such as a prime."""
    most = min(PARTS // batch, slots // ROWS_OF_A_PART)
    return next((parts for parts in range(most, 1, -1) if slots % parts == 0), 1)


def sum_in_parts(weights: Tensor, rows: Tensor, parts: int) -> Tensor:
    """Compute `weights @ rows` as the sum of `parts` products over N / parts rows each."""
    if parts == 1:
        return weights @ rows
    sums: Tensor = weights.unflatten(2, (parts, -1)).transpose(1, 2) @ rows.unflatten(1, (parts, -1))  # [B, parts, R, W]
    return sums.sum(1)


class _ReadRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights, rows):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(weights, rows)
        return sum_over_rows(weights, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        weights, rows = ctx.saved_tensors
        return dot_rows(grad, rows), weights.transpose(1, 2) @ grad


class _ScoreRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, keys, rows):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(keys, rows)
        return dot_rows(keys, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        keys, rows = ctx.saved_tensors
        return sum_over_rows(grad, rows), grad.transpose(1, 2) @ keys


class _AddToRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, weights, vectors):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(weights, vectors)
        ctx.mark_dirty(rows)
        return rows.baddbmm_(weights.transpose(1, 2), vectors)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        weights, vectors = ctx.saved_tensors
        return grad, dot_rows(vectors, grad), sum_over_rows(weights, grad)
