"""Searches that look at every candidate: of all N rows (`exact`), or of those written since reset only (`live`)."""

from typing import ClassVar

from torch import Tensor

from mann_bench.kernels.index.base import Index, Rows, ops_for


class Exact(Index):
    """Scores all N rows: O(N) a query, nothing to build or update."""

    in_sequence = True
    scan_all: ClassVar[bool] = True

    def build(self, rows: Rows) -> None:
        """The rows themselves are the index."""

    def query(self, rows: Rows, queries: Tensor, reads: int) -> Tensor:
        """Exact; of equal rows the first."""
        search = ops_for(self, rows).topk_content
        found: Tensor = search(rows.memory, rows.norms, queries, reads, rows.num_candidates, scan_all=self.scan_all)
        return found

    def update(self, rows: Rows, written: Tensor) -> None:
        """Nothing to follow."""

    def for_sequence(self) -> tuple[dict[str, int], dict[str, Tensor]]:
        """No buffers."""
        return {"scan_all": int(self.scan_all)}, {}


class Live(Exact):
    """Scores the rows written since reset: O(T) a query where the memory starts empty, `exact` where it starts full."""

    scan_all = False
