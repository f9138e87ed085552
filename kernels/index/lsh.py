"""`lsh`: the hash index of `kernels/reference/lsh.py`, on native kernels where they run, and the choice of its sizes."""

import math
from collections.abc import Callable, Iterable
from typing import Self

import torch
from torch import Tensor

from mann_bench.kernels import ops, reference
from mann_bench.kernels.index.base import Index, Reversible, Rows, candidates_of, exchange, ops_for
from mann_bench.kernels.reference import LshSizes, LshTables
from mann_bench.kernels.reference.lsh import LINE, REACH

SMALL = 256  # up to so many rows, one bucket holds all: an exact search
MAX_TABLES = 16
EQUAL_TABLES = (2**14, 2**24)  # from and to so many rows there are equally many tables, and so the log of a step has equally many bytes


def choose_sizes(slots: int, recall: float) -> LshSizes:
    """Choose sizes for N rows so that a share `recall` of the queries finds its nearest row (recall@1).

    The share of queries that miss is modelled as exp(-2.27 tables^0.93 probes^0.5 N^-0.25). This is a fit to measurements, good to 0.03,
    which is added to the target. Measured were unit rows in random directions (the hard case: no row is near another), N from 2^10 to 2^22,
    W = 32, 2 to 16 tables of N / 8 buckets of 8 entries and 4 to 128 probes; queries were stored rows plus Gaussian noise of length 0.57
    (0.1 a coordinate). Scoring one row per four buckets probed loses little recall. Clustered rows overfill some buckets and lower the
    recall: the `index` suite measures it.

    Among the sizes that reach the target, the result touches the fewest cache lines in a step of SAM: one per bucket probed, two per row
    scored, and two per table for each of the five rows written per query. From 2^14 to 2^24 rows it has the number of tables that is best
    in the middle, at 2^19.
    """
    if slots <= SMALL:
        capacity = LINE * math.ceil(slots / LINE)
        return LshSizes(tables=1, bits=0, capacity=capacity, probes=1, rerank=capacity)
    first, last = EQUAL_TABLES
    if first <= slots <= last:
        tables = _fewest_lines(math.isqrt(first * last), recall, range(1, MAX_TABLES + 1)).tables
        return _fewest_lines(slots, recall, (tables,))
    return _fewest_lines(slots, recall, range(1, MAX_TABLES + 1))


def _fewest_lines(slots: int, recall: float, numbers_of_tables: Iterable[int]) -> LshSizes:
    """The sizes with one of these numbers of tables that touch the fewest cache lines, as `choose_sizes` says."""
    bits = max(1, math.ceil(math.log2(slots / LINE)))
    required = -math.log(1 - min(recall + 0.03, 0.995)) * slots**0.25 / 2.27  # value of tables^0.93 probes^0.5
    max_probes = 1 << min(bits, REACH)
    choices = []
    for tables in numbers_of_tables:
        probes = math.ceil((required / tables**0.93) ** 2)
        rerank = max(LINE, math.ceil(tables * min(probes, max_probes) / 4))
        cache_lines = tables * probes + 2 * rerank + 10 * tables
        choices.append((probes > max_probes, cache_lines, LshSizes(tables, bits, LINE, min(probes, max_probes), rerank)))
    return min(choices)[2]


def sizes_for_four(slots: int, lines: int = 1) -> LshSizes:
    """Choose sizes for N rows that find 0.8 of the four nearest ones (recall@4) where no row is near another, as `choose_sizes` has it.

    16 tables of N / 8 buckets, of which 72 (N / 2^20)^0.3 are probed. Three rows are scored for eight buckets probed: the second to fourth
    nearest rows are hardly nearer to the query than others, so their sketches are not among the first few. This follows measurements from
    2^16 to 2^22 rows.

    Args:
        lines: cache lines of a bucket, of 8 entries each. Where rows crowd together, buckets overflow, and the sketches of near rows are
            alike: more lines keep more rows, and so many times more rows are scored.
    """
    if slots <= SMALL:
        return choose_sizes(slots, 1)
    bits = max(1, math.ceil(math.log2(slots / LINE)))
    probes = min(1 << min(bits, REACH), math.ceil(72 * (slots / 2**20) ** 0.3))
    return LshSizes(MAX_TABLES, bits, LINE * lines, probes, rerank=6 * probes * lines)


class Lsh(Index):
    """Hash tables of rows with equal projection signs.

    At a fixed recall, the rows that a query touches grow about as N^(1/4), beyond 16 tables as N^(1/2).
    """

    in_sequence = True
    recall = 0.7  # target for recall@1 (`choose_sizes`); more than the paper's k-d forest reaches

    def __init__(self, sizes: LshSizes | None = None) -> None:
        self.fixed_sizes, self.sizes = sizes, sizes
        self.tables: LshTables | None = None
        self._prepared: tuple[tuple[Tensor, torch.Size, int], Callable[[Tensor], Tensor]] | None = None

    def choose(self, slots: int) -> LshSizes:
        """Choose sizes for N rows."""
        return choose_sizes(slots, self.recall)

    def build(self, rows: Rows) -> None:
        batch, slots, width = rows.memory.shape
        self.sizes = self.fixed_sizes or self.choose(slots)
        self._prepared = None
        self.tables = LshTables.empty(batch, slots, width, self.sizes, rows.norms.dtype, rows.memory.device)
        fill = ops_for(self, rows).lsh_fill
        if getattr(rows, "counts", None) is None:
            fill(self.tables, rows.memory, rows.num_candidates)
            return
        planes, masks, buckets, codes = self.tables.tensors()
        for element in range(batch):
            own = slice(element, element + 1)
            fill(LshTables(planes, masks, buckets[own], codes[own]), rows.memory[own], candidates_of(rows, element))

    def query(self, rows: Rows, queries: Tensor, reads: int) -> Tensor:
        assert self.tables is not None
        assert self.sizes is not None
        module = ops_for(self, rows)
        if module is reference or rows.memory.device.type != "cpu":
            nearest: Tensor = module.lsh_query(self.tables, rows.memory, queries, reads, self.sizes.rerank)
            return nearest
        key = (rows.memory, queries.shape, reads)
        if self._prepared is None or self._prepared[0][0] is not key[0] or self._prepared[0][1:] != key[1:]:
            self._prepared = (key, ops.lsh.prepare_query(self.tables, rows.memory, queries, reads, self.sizes.rerank))
        return self._prepared[1](queries.contiguous())

    def update(self, rows: Rows, written: Tensor) -> Reversible:
        """Update the tables in place; `toggle` restores them to the bit."""
        assert self.tables is not None
        undo: Reversible = ops_for(self, rows).lsh_update(self.tables, rows.memory, written)
        return undo

    def forget(self, rows: Rows, elements: list[int], before: list[int]) -> "Emptied":
        """Empty the buckets in which rows of these elements are, O(rows)."""
        assert self.tables is not None
        return Emptied(self.tables, elements, before)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_prepared": None}

    def tensors(self) -> list[Tensor]:
        return self.tables.tensors() if self.tables else []

    def mapped(self, function: Callable[[Tensor], Tensor], rows: Rows) -> Self:
        """Copy the tables as they are: a rebuild could fill an overfull bucket with other rows."""
        assert self.tables is not None
        assert self.sizes is not None
        other = type(self)(self.fixed_sizes)
        other.sizes, other.native = self.sizes, self.native
        buckets, codes = function(self.tables.buckets), function(self.tables.codes)
        planes, masks = LshTables.directions(rows.memory.shape[2], self.sizes, rows.norms.dtype, codes.device)
        other.tables = LshTables(planes, masks, buckets, codes)
        return other

    def for_sequence(self) -> tuple[dict[str, int], dict[str, Tensor]]:
        assert self.tables is not None
        assert self.sizes is not None
        tables, (number, bits, capacity, probes, rerank) = self.tables, self.sizes
        sizes = {"scan_all": 0, "tables": number, "bits": bits, "capacity": capacity, "probes": probes, "rerank": rerank}
        return sizes, {"planes": tables.planes, "probe_masks": tables.probe_masks, "buckets": tables.buckets, "codes": tables.codes}


class Emptied:
    """Buckets of some batch elements emptied: all those that hold a row 0..count-1, and the codes of those rows."""

    def __init__(self, tables: LshTables, elements: list[int], counts: list[int]) -> None:
        device, number = tables.codes.device, tables.codes.shape[2]
        rows = torch.cat([torch.arange(count, device=device) for count in counts])
        element = torch.tensor(elements, device=device).repeat_interleave(torch.tensor(counts, device=device))
        codes = tables.codes[element, rows]  # [n, tables]
        places = torch.stack([element[:, None].expand_as(codes), torch.arange(number, device=device).expand_as(codes), codes.long()])
        places = places[:, codes >= 0].unique(dim=1)
        self.saved = [(tables.codes, (element, rows), torch.full_like(codes, -1))]
        buckets = tables.buckets[tuple(places)]
        self.saved.append((tables.buckets, tuple(places), torch.full_like(buckets, -1)))
        self.toggle()

    def toggle(self) -> None:
        """Undo it, bit for bit, or do it again."""
        self.saved = [(table, places, exchange(table, places, new)) for table, places, new in self.saved]


class Lsh95(Lsh):
    """`lsh` for a recall@1 of 0.95."""

    recall = 0.95


class LshFour(Lsh):
    """`lsh` for a recall@4 of 0.8."""

    def choose(self, slots: int) -> LshSizes:
        return sizes_for_four(slots)


class LshFourWide(Lsh):
    """`lsh-four` with buckets of four cache lines, for rows that crowd together; it scores four times as many rows."""

    def choose(self, slots: int) -> LshSizes:
        return sizes_for_four(slots, lines=4)
