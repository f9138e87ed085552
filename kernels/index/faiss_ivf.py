"""`faiss-ivf`: faiss's inverted lists with an array direct map, which can change rows in place (Johnson, Douze & Jegou 2019)."""

import importlib
import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mann_bench.kernels.index.base import Index, Reindex, Rows, is_real, unit_rows
from mann_bench.kernels.index.rebuilt import faiss_missing


class FaissIvf(Index):
    """Rows in lists by their nearest centroid; a query looks through the lists of its nearest centroids. One thread a call.

    Centroids are those of a sample of the rows at build; a memory that starts empty is given random directions. Equal rows may be found in
    another order after a rollback, because lists are not kept in one.
    """

    probes: ClassVar[int] = 8
    sample: ClassVar[int] = 65536  # rows that centroids are trained on
    rounds: ClassVar[int] = 5

    def __init__(self) -> None:
        self.lists: list[Any] = []  # one an element

    @classmethod
    def why_not(cls, device: str = "cpu") -> str | None:
        """faiss."""
        return faiss_missing()

    def build(self, rows: Rows) -> None:
        """4 sqrt(N) lists an element; the live rows are added."""
        self.lists = []
        if not is_real(rows.memory):
            return
        faiss: Any = importlib.import_module("faiss")  # its stubs lack what its wrappers add

        faiss.omp_set_num_threads(1)
        width, number = rows.memory.shape[2], list_count(rows.memory.shape[1])
        for element in range(len(rows.memory)):
            quantizer = faiss.IndexFlatIP(width)
            index = faiss.IndexIVFFlat(quantizer, width, number, faiss.METRIC_INNER_PRODUCT)
            index.cp.niter, index.cp.min_points_per_centroid, index.cp.verbose = self.rounds, 1, False
            generator = torch.Generator().manual_seed(0)
            if rows.num_candidates >= number:
                index.train(vectors(rows, element, torch.randperm(rows.num_candidates, generator=generator, device="cpu")[: self.sample]))
            else:
                quantizer.add(torch.nn.functional.normalize(torch.randn(number, width, generator=generator, device="cpu"), dim=1).numpy())
                index.is_trained = True
            index.nprobe = self.probes
            index.set_direct_map_type(faiss.DirectMap.Array)
            if rows.num_candidates:
                index.add(vectors(rows, element, slice(rows.num_candidates)))
            self.lists.append(index)

    def query(self, rows: Rows, queries: Tensor, reads: int) -> Tensor:
        """Rows that are no longer live may still be listed and are left out."""
        asked = queries.detach().to("cpu", torch.float32).numpy()
        found = torch.from_numpy(np.stack([lists.search(own, reads)[1] for lists, own in zip(self.lists, asked, strict=True)]))
        if any(lists.ntotal > rows.num_candidates for lists in self.lists):
            found = found.masked_fill(found >= rows.num_candidates, -1)
        return found.to(queries.device)

    def update(self, rows: Rows, written: Tensor) -> Reindex:
        """Rows that are listed change places; new ones are added in the order of their numbers, as an array direct map needs them."""
        for element, lists in enumerate(self.lists):
            changed = written[element].unique()
            changed = changed[changed >= 0].cpu()
            listed = changed[changed < lists.ntotal]
            if len(listed):
                lists.update_vectors(listed.numpy(), vectors(rows, element, listed))
            if rows.num_candidates > lists.ntotal:
                lists.add(vectors(rows, element, slice(lists.ntotal, rows.num_candidates)))
        return Reindex(self, rows, written)

    def outside_bytes(self, rows: Rows) -> int:
        """Vectors and numbers of the rows, with the slack that growing lists have, the direct map, the centroids."""
        batch, slots, width = rows.memory.shape
        return batch * (slots * (3 * (4 * width + 8) // 2 + 8) + list_count(slots) * 4 * width)


class FaissIvf64(FaissIvf):
    """`faiss-ivf` for a high recall: eight times as many lists are looked through."""

    probes = 64


def list_count(rows: int) -> int:
    """Inverted lists for so many rows: 4 sqrt(n)."""
    return max(1, min(math.isqrt(16 * rows), rows // 8))


def vectors(rows: Rows, element: int, which: Tensor | slice) -> "np.ndarray[Any, Any]":
    """Unit rows of one element as this faiss takes them: float32 on the CPU."""
    return unit_rows(rows, element, which if isinstance(which, slice) else which.to(rows.memory.device)).cpu().numpy()
