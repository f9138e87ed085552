"""Indexes of libraries that cannot change a row, kept right by a rebuild now and then: `faiss-hnsw`, `kd-forest` (and `faiss_gpu.py`)."""

import importlib.util
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.index.base import Index, Rows, is_real, unit_rows

Search = Callable[[Tensor, int], Tensor]  # unit queries [R, W] float32, how many -> rows int64 [R, k]


class Rebuilt(Index):
    """A library's index of the rows as they were, and an exact search of those written since; built anew when they are many.

    Rolling a pass back makes its rows old again, so that training never rebuilds: only passes that stand do.
    """

    on_cpu: ClassVar[bool] = True  # where the library takes vectors: on the CPU, or where the memory is

    def __init__(self) -> None:
        self.search: list[Search] | None = None  # one an element; none while no row is live; None: not built, or saved and loaded since
        self.built = 0  # rows of an element that were live at the build
        self.changes: dict[int, int] = {}  # rows, counted over all elements, to writes since the build that stand

    @abstractmethod
    def build_one(self, vectors: Tensor) -> Search:
        """Index unit vectors float32 [n, W] of one element."""

    def build(self, rows: Rows) -> None:
        """One index an element, on one thread."""
        self.changes, self.search, self.built = {}, [], rows.num_candidates
        if is_real(rows.memory) and rows.num_candidates:
            self.search = [
                self.build_one(self._place(unit_rows(rows, element, slice(rows.num_candidates)))) for element in range(len(rows.memory))
            ]

    def query(self, rows: Rows, queries: Tensor, reads: int) -> Tensor:
        """The library's answer without the rows written since, and those."""
        if self.search is None:
            self.build(rows)
        asked = self._place(functional.normalize(queries.detach(), dim=-1).float())
        if not self.changes and self.search and rows.num_candidates >= self.built:
            answers = torch.stack([search(own, min(reads, rows.num_candidates)) for search, own in zip(self.search, asked, strict=True)])
            return functional.pad(answers, (0, reads - answers.shape[2]), value=-1).to(queries.device)
        changed = torch.tensor(sorted(self.changes), dtype=torch.int64, device=asked.device)
        found = [self._query_one(rows, element, own, changed, reads) for element, own in enumerate(asked)]
        return torch.stack(found).to(queries.device)

    def _query_one(self, rows: Rows, element: int, queries: Tensor, changed: Tensor, reads: int) -> Tensor:
        slots = rows.memory.shape[1]
        own = changed[(changed >= element * slots) & (changed < (element + 1) * slots)] - element * slots
        own = own[own < rows.num_candidates]
        candidates = own.expand(len(queries), -1)
        if self.search:
            old = self.search[element](queries, min(2 * reads, self.built))
            candidates = torch.cat([old.masked_fill(torch.isin(old, own) | (old >= rows.num_candidates), -1), candidates], dim=1)
        vectors = self._place(unit_rows(rows, element, candidates.clamp_min(0).to(rows.memory.device)))
        scores = torch.einsum("rw,rnw->rn", queries, vectors).masked_fill(candidates < 0, -torch.inf)
        best = scores.topk(min(reads, scores.shape[1]), dim=1)
        rows_found = candidates.gather(1, best.indices).masked_fill(best.values == -torch.inf, -1)
        return functional.pad(rows_found, (0, reads - rows_found.shape[1]), value=-1)

    def update(self, rows: Rows, written: Tensor) -> "Written":
        """Note the rows; if they are many by now, build anew."""
        places = written + torch.arange(len(written), device=written.device)[:, None] * rows.memory.shape[1]
        change = Written(self, places[written >= 0].unique().tolist())
        if len(self.changes) > len(rows.memory) * max(1024, rows.memory.shape[1] // 16):
            self.build(rows)
        return change

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "search": None}  # a library's own objects need not be picklable: they are built again when first used

    def _place(self, tensor: Tensor) -> Tensor:
        return tensor.cpu() if self.on_cpu else tensor


class Written:
    """Rows that an index takes for changed since its build."""

    def __init__(self, index: Rebuilt, rows: list[int]) -> None:
        self.index, self.rows, self.made = index, rows, False
        self.toggle()

    def toggle(self) -> None:
        """Take them for changed, or no longer; counts below zero are of rows that a build found changed and that are old again."""
        step = -1 if self.made else 1
        for row in self.rows:
            count = self.index.changes.get(row, 0) + step
            if count:
                self.index.changes[row] = count
            else:
                del self.index.changes[row]
        self.made = not self.made


class FaissHnsw(Rebuilt):
    """faiss's navigable small-world graph (Malkov & Yashunin 2018): rows can be added to it but neither changed nor removed."""

    links: ClassVar[int] = 16
    explored: ClassVar[int] = 64

    @classmethod
    def why_not(cls, device: str = "cpu") -> str | None:
        """faiss, on the CPU."""
        return faiss_missing()

    def build_one(self, vectors: Tensor) -> Search:
        """One thread a call: with two, single queries take many times as long."""
        import faiss

        faiss.omp_set_num_threads(1)
        graph = faiss.IndexHNSWFlat(vectors.shape[1], self.links, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efSearch = self.explored
        graph.add(vectors.numpy())
        return lambda queries, count: torch.from_numpy(graph.search(queries.numpy(), count)[1])

    def outside_bytes(self, rows: Rows) -> int:
        """The vectors, 2 M links on the lowest level and a little above."""
        batch, slots, width = rows.memory.shape
        return batch * slots * (4 * width + 4 * 2 * self.links + 24)


class KdForest(Rebuilt):
    """The paper's index: FLANN's randomized k-d forest of 4 trees, 32 checks a query (Rae et al. 2016, figure 1), as OpenCV ships it."""

    trees: ClassVar[int] = 4
    checks: ClassVar[int] = 32

    @classmethod
    def why_not(cls, device: str = "cpu") -> str | None:
        """OpenCV."""
        return None if importlib.util.find_spec("cv2") else "kd-forest needs OpenCV, which ships FLANN: pip install 'mann-bench[flann]'"

    def build_one(self, vectors: Tensor) -> Search:
        """The Euclidean distance of unit vectors orders as the cosine does."""
        import cv2

        array = vectors.numpy()
        forest: Any = cv2.flann.Index(array, {"algorithm": 1, "trees": self.trees})

        def search(queries: Tensor, count: int, kept: np.ndarray = array) -> Tensor:  # FLANN reads on in the vectors
            return torch.from_numpy(forest.knnSearch(queries.numpy(), count, params={"checks": self.checks})[0]).long()

        return search

    def outside_bytes(self, rows: Rows) -> int:
        """The vectors, and about two nodes of 32 bytes a row and tree."""
        batch, slots, width = rows.memory.shape
        return batch * slots * (4 * width + 2 * 32 * self.trees)


def faiss_missing() -> str | None:
    """What to install for faiss, or None; asked without importing it."""
    return None if importlib.util.find_spec("faiss") else "faiss is not installed: pip install faiss-cpu (or 'mann-bench[cpu]')"
