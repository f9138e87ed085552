"""Recall of an index: the share of the true K nearest rows that it finds, for queries near stored rows."""

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.index.base import Index, Rows
from mann_bench.kernels.ops import topk_content

NOISE = 0.57  # length of what is added to a stored row of unit length to make a query: 0.1 a coordinate at W = 32
QUERIES = 512  # of all batch elements together
MIN_QUERIES = 16  # of each batch element


def queries_near(rows: Rows, which: Tensor, generator: torch.Generator) -> Tensor:
    """Make queries near stored rows int64 [..., B, R]: unit rows plus Gaussian noise, of unit length [..., B, R, W]."""
    device = rows.memory.device
    element = torch.arange(which.shape[-2], device=device)[:, None]
    stored = functional.normalize(rows.memory[element, which.to(device)].to(rows.norms.dtype), dim=-1)
    noise = torch.randn(stored.shape, generator=generator, dtype=torch.float32, device="cpu") * (NOISE * stored.shape[-1] ** -0.5)
    return functional.normalize(stored + noise.to(stored), dim=-1)


def recall_of(index: Index, rows: Rows, heads: int, reads: int, generator: torch.Generator) -> float:
    """Measure the share of the K nearest candidates that is found, over about `QUERIES` queries, R per call."""
    batch = len(rows.memory)
    per_element = max(MIN_QUERIES, QUERIES // batch)
    all_queries = queries_near(rows, torch.randint(rows.num_candidates, (batch, per_element), generator=generator, device="cpu"), generator)
    hits = 0.0
    for queries in all_queries.split(heads, dim=1):
        expected = topk_content(rows.memory, rows.norms, queries.contiguous(), reads, rows.num_candidates)
        nearest = index.query(rows, queries.contiguous(), reads)
        hits += float(((expected.unsqueeze(3) == nearest.unsqueeze(2)) & (expected >= 0).unsqueeze(3)).any(3).sum())
    return hits / (batch * per_element * reads)
