"""Content search: cosine similarity with epsilon inside each norm, and the K most similar rows (Rae et al. 2016, section 3.1)."""

import torch
from torch import Tensor

EPSILON = 1e-6  # inside each norm, sqrt(|v|^2 + eps): a zero row has similarity 0 and finite gradients


def row_norms(rows: Tensor) -> Tensor:
    """`sqrt(|v|^2 + eps)` over the last dimension: `[..., W]` -> `[...]`."""
    return torch.sqrt(torch.linalg.vector_norm(rows, dim=-1).square() + EPSILON)


def cosine_to_rows(queries: Tensor, rows: Tensor) -> Tensor:
    """Compute the cosine of each query [B, R, W] to its K rows [B, R, K, W] -> [B, R, K]. Differentiable in both."""
    dots = torch.einsum("brw,brkw->brk", queries, rows)
    return dots / (row_norms(rows) * row_norms(queries).unsqueeze(-1))


def topk_content(
    memory: Tensor,
    norms: Tensor,
    queries: Tensor,
    k: int,
    num_candidates: int,
    *,
    scan_all: bool = True,
    byte_rows: Tensor | None = None,
) -> Tensor:
    """Find the k rows most similar to each query, best first, of equal rows the lower one. A row whose similarity is NaN comes first.

    Args:
        memory: [B, N, W], may be bfloat16.
        norms: [B, N], cached `row_norms(memory)`.
        queries: [B, R, W].
        num_candidates: rows `0..num_candidates-1` are candidates. Rows are first written in row order, so these were written since reset.
        scan_all: score all N rows and mask the others (index `exact`), or touch only the candidates (index `live`).
        byte_rows: without effect here: with it the native op scores fewer rows, for the same result.

    Returns:
        int64 [B, R, k], -1 where there are fewer candidates.
    """
    rows = memory if scan_all else memory[:, :num_candidates]
    # |q| scales a whole row of scores: it cannot change the order
    scores = queries @ rows.to(queries.dtype).transpose(1, 2) / norms[:, None, : rows.shape[1]]
    if scan_all and num_candidates < memory.shape[1]:
        scores[:, :, num_candidates:] = -torch.inf
    count = min(k, num_candidates)
    return torch.nn.functional.pad(_best(scores, count), (0, k - count), value=-1)


def _best(scores: Tensor, count: int) -> Tensor:
    """Places of the `count` largest scores [B, R, N]. torch.topk orders equal ones as it likes, a stable sort takes far longer."""
    best = scores.topk(min(count + 1, scores.shape[-1]), dim=-1)
    above, below = best.values[..., :-1], best.values[..., 1:]
    if not bool(((above == below) | above.isnan()).any()):
        return best.indices[..., :count]
    ranked = torch.where(scores.isnan(), torch.inf, scores)
    return ranked.sort(dim=-1, descending=True, stable=True).indices[..., :count]
