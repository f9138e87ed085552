"""Exhaustive search: over all N rows (`exact`), or only over those written since reset (`live`)."""

from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from mann_bench.kernels import ops
from mann_bench.kernels.index.base import Index, Reindex, Reversible, Rows, candidates_of, ops_for
from mann_bench.kernels.reference.byte_rows import WIDEST

# Rows of an element from which on `exact` keeps 8-bit copies of them, by the kind of device: with fewer, what they save a search is hardly
# more than what it takes to keep them up to date. None for a GPU, where neither has been measured. "meta" is the memory of a prediction,
# which does not know its device: it says W + 4 bytes a row too much for a GPU.
BOUNDED_FROM: Mapping[str, int] = {"cpu": 8192, "meta": 8192}


class Exact(Index):
    """Searches all N rows: O(N) a query.

    From `bounded_from` rows on, on native kernels, 8-bit copies of the rows are read in their place, and only those rows scored that the
    copies do not rule out: the same rows are found, in the same order. A copy takes W + 4 bytes a row.
    """

    in_sequence = True
    scan_all: ClassVar[bool] = True
    bounded_from: ClassVar[Mapping[str, int]] = BOUNDED_FROM  # empty: the rows themselves are always read

    byte_rows: Tensor | None = None  # int32 [B, N / 8 up, W / 4 up + 1, 8]
    types: tuple[torch.dtype, ...] = ()  # of rows and norms that were copied

    def build(self, rows: Rows) -> None:
        """Copy the rows to bytes, if there are many; else they are the index themselves."""
        self.byte_rows, self.types = None, types_of(rows)
        if self._bounds(rows):
            self.byte_rows = ops.byte_rows(rows.memory, rows.norms)

    def query(self, rows: Rows, queries: Tensor, reads: int) -> Tensor:
        search = ops_for(self, rows).topk_content
        if getattr(rows, "counts", None) is None:
            copies = {} if self.byte_rows is None else {"byte_rows": self.byte_rows}
            nearest: Tensor = search(rows.memory, rows.norms, queries, reads, rows.num_candidates, scan_all=self.scan_all, **copies)
            return nearest
        parts = []
        for element in range(len(queries)):
            own = slice(element, element + 1)
            copies = {} if self.byte_rows is None else {"byte_rows": self.byte_rows[own]}
            given = (rows.memory[own], rows.norms[own], queries[own], reads, candidates_of(rows, element))
            parts.append(search(*given, scan_all=self.scan_all, **copies))
        return torch.cat(parts)

    def update(self, rows: Rows, written: Tensor) -> Reversible | None:
        """Copy the written rows anew; nothing where there are no copies."""
        if self.byte_rows is None:
            return None
        ops_for(self, rows).renew_byte_rows(self.byte_rows, rows.memory, rows.norms, written)
        return Reindex(self, rows, written)

    def forget(self, rows: Rows, elements: list[int], before: list[int]) -> Reversible | None:
        """Copy the rows anew that were written before; the candidates are counted elsewhere."""
        if self.byte_rows is None:
            return None
        places = torch.arange(max(before, default=0), device=rows.memory.device)
        written = torch.full((len(rows.memory), len(places)), -1, dtype=torch.int64, device=places.device)
        for element, count in zip(elements, before, strict=True):
            written[element, :count] = places[:count]
        return self.update(rows, written)

    def tensors(self) -> list[Tensor]:
        return [] if self.byte_rows is None else [self.byte_rows]

    def mapped(self, function: Callable[[Tensor], Tensor], rows: Rows) -> Self:
        """Take the copies along, so that elements narrowed to share them; rows of another number type are copied anew."""
        other = type(self)()
        other.native = self.native
        if self.byte_rows is None or self.types != types_of(rows) or not other._bounds(rows):
            other.build(rows)
        else:
            other.byte_rows, other.types = function(self.byte_rows), self.types
        return other

    def for_sequence(self) -> tuple[dict[str, int], dict[str, Tensor]]:
        return {"scan_all": int(self.scan_all)}, {} if self.byte_rows is None else {"byte_rows": self.byte_rows}

    def _bounds(self, rows: Rows) -> bool:
        """Whether there are to be copies of these rows."""
        _, slots, width = rows.memory.shape
        least = self.bounded_from.get(rows.memory.device.type)
        return least is not None and slots >= least and width <= WIDEST and ops_for(self, rows) is ops


def types_of(rows: Rows) -> tuple[torch.dtype, ...]:
    """The number types of rows and norms."""
    return rows.memory.dtype, rows.norms.dtype


class ExactScan(Exact):
    """`exact` without copies: reads and scores all N rows, as `exact` did before it had them. For comparison."""

    bounded_from: ClassVar[Mapping[str, int]] = {}


class Live(Exact):
    """Scores the rows written since reset: O(T) a query where the memory starts empty, all N where it starts full."""

    scan_all = False
    bounded_from: ClassVar[Mapping[str, int]] = {}
