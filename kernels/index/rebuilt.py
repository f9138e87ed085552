"""Indexes of libraries that cannot change a row, rebuilt after many writes: `faiss-hnsw`, `kd-forest` (and `faiss_gpu.py`)."""

import importlib
import importlib.util
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.index.base import Index, Rows, candidates_of, is_real, unit_rows

Search = Callable[[Tensor, int], Tensor]  # (unit queries [R, W] float32, k) -> rows int64 [R, k]


class Rebuilt(Index):
    """A library's index of the rows at the last build, plus an exact search of those written since.

    It is rebuilt when more than N / 16 rows (at least 1,024) per batch element have been written. Rollback takes its rows off the
    list again: training does not rebuild, inference does.
    """

    on_cpu: ClassVar[bool] = True  # whether the library takes vectors on the CPU, or on the device of the memory

    def __init__(self) -> None:
        self.search: list[Search | None] | None = None  # one per batch element, None without candidates; None: to be built
        self.built: list[int] = []  # number of candidates of each batch element at the build
        self.changes: dict[int, int] = {}  # row (element * N + row) -> writes since the build that are not undone

    @abstractmethod
    def build_element(self, vectors: Tensor) -> Search:
        """Index unit vectors float32 [n, W] of one batch element."""

    def build(self, rows: Rows) -> None:
        self.changes, self.built = {}, [candidates_of(rows, element) for element in range(len(rows.memory))]
        self.search = [
            self.build_element(self._place(unit_rows(rows, element, slice(count)))) if count and is_real(rows.memory) else None
            for element, count in enumerate(self.built)
        ]

    def query(self, rows: Rows, queries: Tensor, reads: int) -> Tensor:
        """Search the library's index without the rows written since the build, and search those exactly."""
        if self.search is None:
            self.build(rows)
        units = self._place(functional.normalize(queries.detach(), dim=-1).float())
        changed = torch.tensor(sorted(self.changes), dtype=torch.int64, device=units.device)
        nearest = [self._query_element(rows, element, part, changed, reads) for element, part in enumerate(units)]
        return torch.stack(nearest).to(queries.device)

    def _query_element(self, rows: Rows, element: int, queries: Tensor, changed: Tensor, reads: int) -> Tensor:
        assert self.search is not None
        slots, count, search, built = rows.memory.shape[1], candidates_of(rows, element), self.search[element], self.built[element]
        if not self.changes and search and count >= built:
            nearest = search(queries, min(reads, count))
            return functional.pad(nearest, (0, reads - nearest.shape[1]), value=-1)
        written = changed[(changed >= element * slots) & (changed < (element + 1) * slots)] - element * slots
        written = written[written < count]
        candidates = written.expand(len(queries), -1)
        if search:
            old = search(queries, min(2 * reads, built))
            candidates = torch.cat([old.masked_fill(torch.isin(old, written) | (old >= count), -1), candidates], dim=1)
        vectors = self._place(unit_rows(rows, element, candidates.clamp_min(0).to(rows.memory.device)))
        scores = torch.einsum("rw,rnw->rn", queries, vectors).masked_fill(candidates < 0, -torch.inf)
        best = scores.topk(min(reads, scores.shape[1]), dim=1)
        nearest = candidates.gather(1, best.indices).masked_fill(best.values == -torch.inf, -1)
        return functional.pad(nearest, (0, reads - nearest.shape[1]), value=-1)

    def update(self, rows: Rows, written: Tensor) -> "WrittenMark":
        """Mark the rows as written; rebuild if that makes too many."""
        flat = written + torch.arange(len(written), device=written.device)[:, None] * rows.memory.shape[1]
        change = WrittenMark(self, flat[written >= 0].unique().tolist())
        if len(self.changes) > len(rows.memory) * max(1024, rows.memory.shape[1] // 16):
            self.build(rows)
        return change

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "search": None}  # a library's objects need not be picklable; they are rebuilt at the next query

    def _place(self, tensor: Tensor) -> Tensor:
        return tensor.cpu() if self.on_cpu else tensor


class WrittenMark:
    """The mark of rows as written since the build."""

    def __init__(self, index: Rebuilt, rows: list[int]) -> None:
        self.index, self.rows, self.marked = index, rows, False
        self.toggle()

    def toggle(self) -> None:
        """Set or remove the mark. A negative count is a row that was dirty at the last build and has been rolled back since."""
        step = -1 if self.marked else 1
        for row in self.rows:
            count = self.index.changes.get(row, 0) + step
            if count:
                self.index.changes[row] = count
            else:
                del self.index.changes[row]
        self.marked = not self.marked


class FaissHnsw(Rebuilt):
    """faiss's navigable small-world graph (Malkov & Yashunin 2018), which accepts new rows but no changes."""

    links: ClassVar[int] = 16  # per row
    explored: ClassVar[int] = 64  # candidates held during a search

    @classmethod
    def why_not(cls, device: str = "cpu") -> str | None:
        return faiss_missing()

    def build_element(self, vectors: Tensor) -> Search:
        """Build and search on one thread: with two, single queries take many times as long."""
        with one_thread() as faiss:
            graph = faiss.IndexHNSWFlat(vectors.shape[1], self.links, faiss.METRIC_INNER_PRODUCT)
            graph.hnsw.efSearch = self.explored
            graph.add(vectors.numpy())

        def search(queries: Tensor, count: int) -> Tensor:
            with one_thread():
                return torch.from_numpy(graph.search(queries.numpy(), count)[1])

        return search

    def outside_bytes(self, rows: Rows) -> int:
        """The vectors, and 2 M links per row on the lowest level and a few above."""
        batch, slots, width = rows.memory.shape
        return batch * slots * (4 * width + 4 * 2 * self.links + 24)


class KdForest(Rebuilt):
    """The paper's index: FLANN's randomized k-d forest of 4 trees, 32 checks a query (Rae et al. 2016, figure 1), as OpenCV ships it."""

    trees: ClassVar[int] = 4
    checks: ClassVar[int] = 32  # leaves visited per query

    @classmethod
    def why_not(cls, device: str = "cpu") -> str | None:
        return None if importlib.util.find_spec("cv2") else "kd-forest needs OpenCV, which ships FLANN: pip install 'mann-bench[flann]'"

    def build_element(self, vectors: Tensor) -> Search:
        """Build over unit vectors, whose Euclidean distance orders as the cosine does."""
        import cv2

        array = vectors.numpy()
        forest = cv2.flann.Index(array, {"algorithm": 1, "trees": self.trees})

        def search(queries: Tensor, count: int, kept: np.ndarray = array) -> Tensor:  # FLANN keeps reading the vectors
            return torch.from_numpy(forest.knnSearch(queries.numpy(), count, params={"checks": self.checks})[0]).long()

        return search

    def outside_bytes(self, rows: Rows) -> int:
        """The vectors, and about two nodes of 32 bytes per row and tree."""
        batch, slots, width = rows.memory.shape
        return batch * slots * (4 * width + 2 * 32 * self.trees)


@contextmanager
def one_thread() -> Iterator[ModuleType]:
    """Import faiss and hold it to one thread; afterwards it has as many as before, for whoever else uses it in this process."""
    faiss = importlib.import_module("faiss")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)


def faiss_missing() -> str | None:
    """Return what to install for faiss, or None, without importing it."""
    return None if importlib.util.find_spec("faiss") else "faiss is not installed: pip install faiss-cpu (or 'mann-bench[cpu]')"
