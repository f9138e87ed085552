"""`faiss-gpu-exact` and `faiss-gpu-ivf`: faiss on a GPU, on torch's own tensors and stream (Johnson, Douze & Jegou 2019)."""

import functools
import importlib
import importlib.util
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.index.base import Index, Reindex, Rows, candidates_of, unit_rows
from mann_bench.kernels.index.faiss_ivf import FaissIvf, list_count
from mann_bench.kernels.index.rebuilt import Rebuilt, Search, faiss_missing

TEMPORARY_BYTES = 256 * 2**20  # faiss's workspace on the device; its default is 1.5 GiB


class FaissGpuExact(Index):
    """faiss's brute force over unit rows in float32, stored beside the memory: O(N) per query, O(1) per row written.

    One call per batch element and step. Nothing is copied to the host, and the host does not wait. Of equal scores any may come first.
    """

    def __init__(self) -> None:
        self.unit: Tensor | None = None  # [B, N, W] float32

    @classmethod
    def why_not(cls, device: str = "cpu") -> str | None:
        return faiss_gpu_missing(device)

    def build(self, rows: Rows) -> None:
        self.unit = torch.empty(rows.memory.shape, dtype=torch.float32, device=rows.memory.device)
        for element, unit in enumerate(self.unit):
            unit.copy_(unit_rows(rows, element, slice(None)))

    def query(self, rows: Rows, queries: Tensor, reads: int) -> Tensor:
        assert self.unit is not None
        faiss = library()
        queries = queries.detach().float().contiguous()
        nearest = []
        with torch.cuda.device_of(self.unit):
            for element, (own, unit) in enumerate(zip(queries, self.unit, strict=True)):
                candidates = unit[: candidates_of(rows, element)]
                count = min(reads, len(candidates))
                found = queries.new_empty(len(own), 0, dtype=torch.int64)
                if count:
                    found = faiss.knn_gpu(resources(), own, candidates, count, metric=faiss.METRIC_INNER_PRODUCT)[1]
                nearest.append(functional.pad(found, (0, reads - count), value=-1))
        return torch.stack(nearest)

    def update(self, rows: Rows, written: Tensor) -> Reindex:
        """Divide the written rows by their new norms. An entry -1 refreshes row 0, to no effect."""
        assert self.unit is not None
        element, which = torch.arange(len(written), device=written.device)[:, None], written.clamp_min(0)
        self.unit[element, which] = unit_rows(rows, element, which)
        return Reindex(self, rows, written)

    def tensors(self) -> list[Tensor]:
        return [] if self.unit is None else [self.unit]

    def outside_bytes(self, rows: Rows) -> int:
        return TEMPORARY_BYTES


class FaissGpuIvf(Rebuilt):
    """faiss's inverted lists on the GPU. They accept new rows but no changes, so they are rebuilt as `faiss-hnsw` is.

    Rows and queries stay on the device. The host keeps track of the written rows, so each write waits for the device.
    """

    on_cpu = False
    probes: ClassVar[int] = 8

    @classmethod
    def why_not(cls, device: str = "cpu") -> str | None:
        return faiss_gpu_missing(device)

    def build_element(self, vectors: Tensor) -> Search:
        """Make 4 sqrt(n) lists around centroids trained on a sample, as `faiss-ivf` does."""
        faiss = library()
        sample = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0), device="cpu")[: FaissIvf.sample].to(
            vectors.device
        )
        with torch.cuda.device_of(vectors):
            config = faiss.GpuIndexIVFFlatConfig()
            config.device = max(0, vectors.get_device())
            index = faiss.GpuIndexIVFFlat(resources(), vectors.shape[1], list_count(len(vectors)), faiss.METRIC_INNER_PRODUCT, config)
            index.cp.niter, index.cp.min_points_per_centroid = FaissIvf.rounds, 1
            index.nprobe = self.probes
            index.train(vectors[sample])
            index.add(vectors)

        def search(queries: Tensor, count: int) -> Tensor:
            with torch.cuda.device_of(queries):
                nearest: Tensor = index.search(queries.contiguous(), count)[1]
            return nearest

        return search

    def outside_bytes(self, rows: Rows) -> int:
        """Vectors and numbers of the rows, with the slack of growing lists, the centroids, and the workspace."""
        batch, slots, width = rows.memory.shape
        return batch * (slots * 3 * (4 * width + 8) // 2 + list_count(slots) * 4 * width) + TEMPORARY_BYTES


def faiss_gpu_missing(device: str) -> str | None:
    """Return what is missing for faiss on a GPU, or None; faiss is imported only where there is a GPU."""
    if torch.device(device).type == "cpu":
        return f"faiss-gpu searches rows on a GPU: expected device cuda, got {device}"
    if not torch.cuda.is_available():
        return "faiss-gpu needs an NVIDIA GPU that this torch can use, got none"
    if faiss_missing():
        return "faiss is not installed: pip install faiss-gpu (or 'mann-bench[gpu]')"
    try:
        built_for_gpu = hasattr(importlib.import_module("faiss"), "StandardGpuResources")
    except Exception as error:  # the import loads CUDA's libraries and fails with many kinds of errors
        return f"faiss cannot be imported: {error}"
    return None if built_for_gpu else "this faiss is built without GPU: pip uninstall faiss-cpu, then pip install faiss-gpu"


def library() -> ModuleType:
    """Import faiss; with `faiss.contrib.torch_utils` its calls take torch tensors and run on torch's current stream."""
    importlib.import_module("faiss.contrib.torch_utils")
    return importlib.import_module("faiss")


@functools.cache
def resources() -> Any:
    """Make faiss's handle to the GPUs, one per process."""
    handle = library().StandardGpuResources()
    handle.setTempMemory(TEMPORARY_BYTES)
    handle.setPinnedMemory(0)  # nothing is copied from the host
    return handle
