"""Exhaustive search: over all N rows (`exact`), or only over those written since reset (`live`)."""

from typing import ClassVar

import torch
from torch import Tensor

from mann_bench.kernels.index.base import Index, Rows, candidates_of, ops_for


class Exact(Index):
    """Scores all N rows: O(N) a query, nothing to build or update."""

    in_sequence = True
    scan_all: ClassVar[bool] = True

    def build(self, rows: Rows) -> None:
        """Do nothing: the rows themselves are the index."""

    def query(self, rows: Rows, queries: Tensor, reads: int) -> Tensor:
        search = ops_for(self, rows).topk_content
        if getattr(rows, "counts", None) is None:
            nearest: Tensor = search(rows.memory, rows.norms, queries, reads, rows.num_candidates, scan_all=self.scan_all)
            return nearest
        parts = []
        for element in range(len(queries)):
            own = slice(element, element + 1)
            count = candidates_of(rows, element)
            parts.append(search(rows.memory[own], rows.norms[own], queries[own], reads, count, scan_all=self.scan_all))
        return torch.cat(parts)

    def update(self, rows: Rows, written: Tensor) -> None:
        """Do nothing: there is no structure to update."""

    def forget(self, rows: Rows, elements: list[int], before: list[int]) -> None:
        """Do nothing: the candidates are counted elsewhere."""

    def for_sequence(self) -> tuple[dict[str, int], dict[str, Tensor]]:
        return {"scan_all": int(self.scan_all)}, {}


class Live(Exact):
    """Scores the rows written since reset: O(T) a query where the memory starts empty, `exact` where it starts full."""

    scan_all = False
