"""`lsh`: the hash index of kernels/reference/lsh.py, on native kernels where there are any, and how its sizes are chosen."""

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from mann_bench.kernels import ops, reference
from mann_bench.kernels.index.base import Index, Reversible, Rows, ops_for
from mann_bench.kernels.reference import LshSizes, LshTables
from mann_bench.kernels.reference.lsh import LINE, REACH

SMALL = 256  # up to so many rows one bucket holds them all: an exact search
MOST_TABLES = 16


def choose_sizes(slots: int, recall: float) -> LshSizes:
    """Sizes for N rows with which the nearest row is among those found for a part `recall` of the queries (recall@1).

    The law behind it is a fit to measurements: of unit rows in random directions (the hard case: no row is near another), N from 2^10 to
    2^22, W = 32, 2 to 16 tables of N / 8 buckets of 8 entries, 4 to 128 probes, queried with stored rows plus Gaussian noise of length
    0.57 (0.1 a coordinate), the part of queries that miss was exp(-2.27 tables^0.93 probes^0.5 N^-0.25), to within 0.03, which is added
    to the target; a fourth of the candidates' cache lines as rows to score loses little of it. Memories whose rows crowd together fill
    some buckets and find less: the `index` suite measures what is found.

    Among the sizes that reach the target those are taken that touch the fewest cache lines in a step of SAM, which for each query also
    moves five rows: a line a bucket probed, two a row scored, and two a table for each row moved.
    """
    if slots <= SMALL:
        capacity = LINE * math.ceil(slots / LINE)
        return LshSizes(tables=1, bits=0, capacity=capacity, probes=1, rerank=capacity)
    bits = max(1, math.ceil(math.log2(slots / LINE)))
    needed = -math.log(1 - min(recall + 0.03, 0.995)) * slots**0.25 / 2.27  # of tables^0.93 probes^0.5
    most_probes = 1 << min(bits, REACH)
    choices = []
    for tables in range(1, MOST_TABLES + 1):
        probes = math.ceil((needed / tables**0.93) ** 2)
        rerank = max(LINE, math.ceil(tables * min(probes, most_probes) / 4))
        lines = tables * probes + 2 * rerank + 10 * tables
        choices.append((probes > most_probes, lines, LshSizes(tables, bits, LINE, min(probes, most_probes), rerank)))
    return min(choices)[2]


class Lsh(Index):
    """Tables of buckets of rows with like signs; what a query touches grows about as N^(1/4) for one recall, N^(1/2) beyond 16 tables."""

    in_sequence = True
    recall = 0.7  # the target for recall@1, see `choose_sizes`; more than the paper's k-d forest reaches

    def __init__(self, sizes: LshSizes | None = None) -> None:
        self.sizes, self.chosen = sizes, sizes
        self.tables: LshTables | None = None
        self._prepared: tuple[tuple[Tensor, torch.Size, int], Callable[[Tensor], Tensor]] | None = None

    def build(self, rows: Rows) -> None:
        """All live rows, on all threads."""
        batch, slots, width = rows.memory.shape
        self.chosen = self.sizes or choose_sizes(slots, self.recall)
        self._prepared = None
        self.tables = LshTables.empty(batch, slots, width, self.chosen, rows.norms.dtype, rows.memory.device)
        ops_for(self, rows).lsh_fill(self.tables, rows.memory, rows.num_candidates)

    def query(self, rows: Rows, queries: Tensor, reads: int) -> Tensor:
        """The best of the candidates, by their cosine."""
        assert self.tables is not None
        assert self.chosen is not None
        module = ops_for(self, rows)
        if module is reference or rows.memory.device.type != "cpu":
            found: Tensor = module.lsh_query(self.tables, rows.memory, queries, reads, self.chosen.rerank)
            return found
        key = (rows.memory, queries.shape, reads)
        if self._prepared is None or self._prepared[0][0] is not key[0] or self._prepared[0][1:] != key[1:]:
            self._prepared = (key, ops.lsh.prepare_query(self.tables, rows.memory, queries, reads, self.chosen.rerank))
        return self._prepared[1](queries.contiguous())

    def update(self, rows: Rows, written: Tensor) -> Reversible:
        """In place; `toggle` restores every table to the bit."""
        assert self.tables is not None
        undo: Reversible = ops_for(self, rows).lsh_update(self.tables, rows.memory, written)
        return undo

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prepared": None}

    def tensors(self) -> list[Tensor]:
        """Hyperplanes, buckets, codes."""
        return self.tables.tensors() if self.tables else []

    def mapped(self, function: Callable[[Tensor], Tensor], rows: Rows) -> Self:
        """The same tables: a bucket that was full of other rows is so in the copy."""
        assert self.tables is not None
        assert self.chosen is not None
        other = type(self)(self.sizes)
        other.chosen, other.native = self.chosen, self.native
        buckets, codes = function(self.tables.buckets), function(self.tables.codes)
        planes, masks = LshTables.directions(rows.memory.shape[2], self.chosen, rows.norms.dtype, codes.device)
        other.tables = LshTables(planes, masks, buckets, codes)
        return other

    def for_sequence(self) -> tuple[dict[str, int], dict[str, Tensor]]:
        """The tables."""
        assert self.tables is not None
        assert self.chosen is not None
        buffers = ("planes", "probe_masks", "buckets", "codes")
        return {"scan_all": 0, **self.chosen._asdict()}, {name: getattr(self.tables, name) for name in buffers}


class Lsh95(Lsh):
    """`lsh` for a recall@1 of 0.95."""

    recall = 0.95
