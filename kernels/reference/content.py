"""Content search: cosine similarity with epsilon inside each norm, and the K most similar rows (Rae et al. 2016, section 3.1)."""

import torch
from torch import Tensor

EPSILON = 1e-6  # inside each norm, sqrt(|v|^2 + eps): a zero row has similarity 0 and finite gradients


def row_norms(rows: Tensor) -> Tensor:
    """`sqrt(|v|^2 + eps)` over the last dimension: `[..., W]` -> `[...]`."""
    return torch.sqrt(torch.linalg.vector_norm(rows, dim=-1).square() + EPSILON)


def cosine_to_rows(queries: Tensor, rows: Tensor) -> Tensor:
    """Similarity of each query to its own rows: `[B, R, W]`, `[B, R, K, W]` -> `[B, R, K]`. Differentiable in both."""
    dots = torch.einsum("brw,brkw->brk", queries, rows)
    return dots / (row_norms(rows) * row_norms(queries).unsqueeze(-1))


def topk_content(memory: Tensor, norms: Tensor, queries: Tensor, k: int, num_candidates: int, *, scan_all: bool = True) -> Tensor:
    """Find the k rows most similar to each query, best first; of equal rows any may come first.

    Args:
        memory: [B, N, W], may be bfloat16.
        norms: [B, N], cached `row_norms(memory)`.
        queries: [B, R, W].
        num_candidates: rows `0..num_candidates-1` are candidates. Rows are first written in row order, so these were written since reset.
        scan_all: score all N rows and mask the others (index `exact`), or touch only the candidates (index `live`).

    Returns:
        int64 [B, R, k], -1 where there are fewer candidates.
    """
    rows = memory if scan_all else memory[:, :num_candidates]
    # |q| scales a whole row of scores: it cannot change the order
    scores = queries @ rows.to(queries.dtype).transpose(1, 2) / norms[:, None, : rows.shape[1]]
    if scan_all and num_candidates < memory.shape[1]:
        scores[:, :, num_candidates:] = -torch.inf
    found = min(k, num_candidates)
    best = scores.topk(found, dim=-1).indices if found else scores.new_empty(*scores.shape[:2], 0, dtype=torch.int64)
    return torch.nn.functional.pad(best, (0, k - found), value=-1)
