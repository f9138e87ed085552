"""How much an index finds: the part of the truly nearest rows among those found for queries near stored rows."""

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.index.base import Index, Rows
from mann_bench.kernels.ops import topk_content

NOISE = 0.57  # length of what is added to a stored row of unit length to make a query: 0.1 a coordinate at W = 32
JUDGED = 512  # queries by which recall is judged, of all elements together
FEWEST_JUDGED = 16  # of each element


def queries_near(rows: Rows, which: Tensor, generator: torch.Generator) -> Tensor:
    """Stored rows int64 [..., B, R] plus Gaussian noise: [..., B, R, W] of unit length."""
    device = rows.memory.device
    element = torch.arange(which.shape[-2], device=device)[:, None]
    stored = functional.normalize(rows.memory[element, which.to(device)].to(rows.norms.dtype), dim=-1)
    noise = torch.randn(stored.shape, generator=generator, device="cpu") * (NOISE * stored.shape[-1] ** -0.5)
    return functional.normalize(stored + noise.to(stored), dim=-1)


def recall_of(index: Index, rows: Rows, heads: int, reads: int, generator: torch.Generator) -> float:
    """Part of the K nearest live rows that is found for about `JUDGED` queries, shared out among the elements and asked R at a time."""
    batch = len(rows.memory)
    of_element = max(FEWEST_JUDGED, JUDGED // batch)
    judged = queries_near(rows, torch.randint(rows.num_candidates, (batch, of_element), generator=generator, device="cpu"), generator)
    hits = 0.0
    for queries in judged.split(heads, dim=1):
        expected = topk_content(rows.memory, rows.norms, queries.contiguous(), reads, rows.num_candidates)
        found = index.query(rows, queries.contiguous(), reads)
        hits += float(((expected.unsqueeze(3) == found.unsqueeze(2)) & (expected >= 0).unsqueeze(3)).any(3).sum())
    return hits / (batch * of_element * reads)
