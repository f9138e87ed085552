"""The part of faiss for GPUs that is used, computed on the CPU: calls, argument checks and limits are those of faiss 1.15 with
`faiss.contrib.torch_utils`, whose tensors must be contiguous float32 and whose k and number of probes are limited.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

METRIC_INNER_PRODUCT, METRIC_L2 = 0, 1
MOST = 2048  # GPU_MAX_SELECTION_K


class StandardGpuResources:
    """A handle that remembers what was asked of it."""

    def __init__(self) -> None:
        self.temporary_bytes = self.pinned_bytes = 256 * 2**20

    def setTempMemory(self, size: int) -> None:
        self.temporary_bytes = size

    def setPinnedMemory(self, size: int) -> None:
        self.pinned_bytes = size


def knn_gpu(
    res: Any, xq: Tensor, xb: Tensor, k: int, D: Any = None, I: Any = None, metric: int = METRIC_L2, device: int = -1
) -> tuple[Tensor, Tensor]:
    """Rows of largest inner product; -1 where there are fewer than k."""
    assert type(res) is StandardGpuResources
    assert metric == METRIC_INNER_PRODUCT
    checked(xq, xb.shape[1])
    checked(xb, xq.shape[1])
    return best(xq @ xb.T, k)


class GpuIndexIVFFlatConfig:
    """On which GPU."""

    device = 0


class GpuIndexIVFFlat:
    """Inverted lists; it has no way to change a row or to remove one."""

    def __init__(self, provider: Any, dims: int, nlist: int, metric: int, config: GpuIndexIVFFlatConfig) -> None:
        assert type(provider) is StandardGpuResources
        assert metric == METRIC_INNER_PRODUCT
        assert config.device == 0
        self.d, self.nlist, self.nprobe, self.ntotal, self.is_trained = dims, nlist, 1, 0, False
        self.cp = SimpleNamespace(niter=25, min_points_per_centroid=39)
        self.rows, self.lists = torch.empty(0, dims), torch.empty(0, dtype=torch.int64)

    def train(self, x: Tensor) -> None:
        checked(x, self.d)
        assert len(x) >= self.nlist, "faiss: number of training points should be at least as large as number of clusters"
        self.centroids = x[: self.nlist].clone()
        for _ in range(self.cp.niter):
            nearest = (x @ self.centroids.T).argmax(1)
            sums = torch.zeros_like(self.centroids).index_add_(0, nearest, x)
            self.centroids = torch.where(sums.any(1, keepdim=True), torch.nn.functional.normalize(sums, dim=1), self.centroids)
        self.is_trained = True

    def add(self, x: Tensor) -> None:
        checked(x, self.d)
        assert self.is_trained
        self.rows, self.lists = torch.cat([self.rows, x]), torch.cat([self.lists, (x @ self.centroids.T).argmax(1)])
        self.ntotal = len(self.rows)

    def search(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        checked(x, self.d)
        assert self.nprobe <= MOST
        probed = (x @ self.centroids.T).topk(min(self.nprobe, self.nlist), dim=1).indices  # [n, probes]
        inside = (probed.unsqueeze(2) == self.lists).any(1)  # [n, rows]
        return best((x @ self.rows.T).masked_fill(~inside, -torch.inf), k)


def checked(x: Tensor, width: int) -> None:
    """What faiss asserts of a tensor."""
    assert type(x) is Tensor
    assert x.is_contiguous()
    assert x.dtype == torch.float32
    assert x.dim() == 2
    assert x.shape[1] == width


def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each line, -1 where there are fewer."""
    assert 1 <= k <= MOST
    found = scores.topk(min(k, scores.shape[1]), dim=1)
    rows = found.indices.masked_fill(found.values == -torch.inf, -1)
    missing = (0, k - rows.shape[1])
    return torch.nn.functional.pad(found.values, missing, value=-torch.inf), torch.nn.functional.pad(rows, missing, value=-1)
