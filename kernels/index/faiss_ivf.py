"""`faiss-ivf`: faiss's inverted lists with an array direct map, which can change rows in place (Johnson, Douze & Jegou 2019)."""

import importlib
import math
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mann_bench.kernels.index.base import Index, Reindex, Rows, candidates_of, is_real, unit_rows
from mann_bench.kernels.index.rebuilt import faiss_missing, one_thread


class FaissIvf(Index):
    """Inverted lists: each row is in the list of its nearest centroid; a query searches the lists of its `probes` nearest centroids.

    Centroids are trained on a sample of the rows at build; a memory that starts empty gets random directions. Lists are unordered, so equal
    rows may be found in another order after a rollback. Each call runs on one thread.
    """

    probes: ClassVar[int] = 8
    sample: ClassVar[int] = 65536  # rows that centroids are trained on
    rounds: ClassVar[int] = 5  # of k-means

    def __init__(self) -> None:
        self.lists: list[Any] = []  # a faiss index per batch element

    @classmethod
    def why_not(cls, device: str = "cpu") -> str | None:
        return faiss_missing()

    def build(self, rows: Rows) -> None:
        """Make 4 sqrt(N) lists per batch element and add the candidates."""
        self.lists = []
        if not is_real(rows.memory):
            return
        width, number = rows.memory.shape[2], list_count(rows.memory.shape[1])
        with one_thread() as faiss:
            for element in range(len(rows.memory)):
                quantizer = faiss.IndexFlatIP(width)
                index = faiss.IndexIVFFlat(quantizer, width, number, faiss.METRIC_INNER_PRODUCT)
                index.cp.niter, index.cp.min_points_per_centroid, index.cp.verbose = self.rounds, 1, False
                generator = torch.Generator().manual_seed(0)
                count = candidates_of(rows, element)
                if count >= number:
                    sample = torch.randperm(count, generator=generator, device="cpu")[: self.sample]
                    index.train(unit_vectors(rows, element, sample))
                else:
                    directions = torch.randn(number, width, generator=generator, dtype=torch.float32, device="cpu")
                    quantizer.add(torch.nn.functional.normalize(directions, dim=1).numpy())
                    index.is_trained = True
                index.nprobe = self.probes
                index.set_direct_map_type(faiss.DirectMap.Array)
                if count:
                    index.add(unit_vectors(rows, element, slice(count)))
                self.lists.append(index)

    def query(self, rows: Rows, queries: Tensor, reads: int) -> Tensor:
        """Search the lists; rows that a rollback has removed from the candidates may still be listed and are dropped."""
        vectors = queries.detach().to("cpu", torch.float32).numpy()
        with one_thread():
            found = [lists.search(part, reads)[1] for lists, part in zip(self.lists, vectors, strict=True)]
        nearest = torch.from_numpy(np.stack(found))
        counts = [candidates_of(rows, element) for element in range(len(self.lists))]
        if any(lists.ntotal > count for lists, count in zip(self.lists, counts, strict=True)):
            nearest = nearest.masked_fill(nearest >= torch.tensor(counts).view(-1, 1, 1), -1)
        return nearest.to(queries.device)

    def update(self, rows: Rows, written: Tensor) -> Reindex:
        """Move listed rows to their new lists; add new rows in the order of their numbers, as an array direct map requires."""
        with one_thread():
            for element, lists in enumerate(self.lists):
                changed = written[element].unique()
                changed = changed[changed >= 0].cpu()
                listed = changed[changed < lists.ntotal]
                if len(listed):
                    lists.update_vectors(listed.numpy(), unit_vectors(rows, element, listed))
                if candidates_of(rows, element) > lists.ntotal:
                    lists.add(unit_vectors(rows, element, slice(lists.ntotal, candidates_of(rows, element))))
        return Reindex(self, rows, written)

    def __getstate__(self) -> dict[str, object]:
        """faiss's own form of the lists, as tensors."""
        if not self.lists:
            return self.__dict__
        faiss = importlib.import_module("faiss")
        return {**self.__dict__, "lists": [torch.from_numpy(faiss.serialize_index(lists)) for lists in self.lists]}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        if self.lists:
            faiss = importlib.import_module("faiss")
            self.lists = [faiss.deserialize_index(lists.numpy()) for lists in self.lists]

    def outside_bytes(self, rows: Rows) -> int:
        """Vectors and numbers of the rows, with the slack of growing lists, the direct map and the centroids."""
        batch, slots, width = rows.memory.shape
        return batch * (slots * (3 * (4 * width + 8) // 2 + 8) + list_count(slots) * 4 * width)


class FaissIvf64(FaissIvf):
    """`faiss-ivf` for a high recall: a query searches eight times as many lists."""

    probes = 64


class FaissIvf96(FaissIvf):
    """`faiss-ivf` for a recall@4 of 0.8 at a million rows, beside `lsh-four`."""

    probes = 96


def list_count(rows: int) -> int:
    """Choose the number of inverted lists for n rows: 4 sqrt(n)."""
    return max(1, min(math.isqrt(16 * rows), rows // 8))


def unit_vectors(rows: Rows, element: int, which: Tensor | slice) -> NDArray[np.float32]:
    """Convert unit rows of one batch element to what this faiss takes: float32 on the CPU."""
    return unit_rows(rows, element, which if isinstance(which, slice) else which.to(rows.memory.device)).cpu().numpy()
