"""A hash index over the rows of a memory, updated in place: tables of random hyperplane buckets (Charikar 2002), several probes a table
(Lv et al. 2007), and in each bucket entry a sketch of its row, so that few candidates are scored (asymmetric distance: Dong et al. 2008).

The code of a row in a table is the signs of `bits` projections; it names a bucket of `capacity` entries `row << 32 | sketch`, -1: empty.
A row whose bucket is full replaces entry `row % capacity`; the replaced row is lost to that table until it is written again.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple, Self

import torch
from torch import Tensor

from mann_bench.kernels.native.huge_pages import on_huge_pages
from mann_bench.kernels.reference.content import EPSILON
from mann_bench.kernels.reference.lru_ring import LARGEST

SKETCH_BITS = 32
LINE = 8  # entries per cache line; capacities are multiples of it
FARTHEST = 63  # largest sketch distance of a candidate
REACH = 12  # number of least certain bits that probes flip


class LshSizes(NamedTuple):
    """`tables` of 2^bits buckets of `capacity` entries; a query searches `probes` buckets of each table and scores `rerank` rows."""

    tables: int
    bits: int
    capacity: int
    probes: int
    rerank: int


@dataclass
class LshTables:
    """Hyperplanes and tables of an index over [B, N, W]; the buffers are changed in place."""

    planes: Tensor  # [W, tables * bits + 32] hyperplanes of the tables, then of the sketch
    probe_masks: Tensor  # [probes] int32: which of the least certain bits a probe flips
    buckets: Tensor  # [B, tables, 2^bits, capacity] int64
    codes: Tensor  # [B, N, tables] int32: bucket of a row, -1: none

    @classmethod
    def empty(
        cls, batch: int, slots: int, width: int, sizes: LshSizes, dtype: torch.dtype, device: torch.device | str | None = None
    ) -> Self:
        """Make empty tables; ValueError for bad sizes. Up to W hyperplanes of a table are orthogonal; they are the same on any device."""
        tables, bits, capacity, probes, rerank = sizes
        if min(tables, capacity, probes, rerank) < 1 or not 0 <= bits <= 24 or capacity % LINE or probes > 1 << min(bits, REACH):
            raise ValueError(
                f"sizes: expected tables, rerank >= 1, 0 to 24 bits, a capacity that is a multiple of {LINE}, 1 to 2^min(bits, {REACH}) "
                f"probes, got {sizes}"
            )
        if slots > LARGEST or capacity << bits > LARGEST:
            raise ValueError(f"slots, sizes: expected at most {LARGEST} rows, and entries a table, got {slots} and {capacity << bits}")
        device = torch.get_default_device() if device is None else device
        planes, masks = cls.directions(width, sizes, dtype, device)
        buckets = torch.empty(batch, tables, 1 << bits, capacity, dtype=torch.int64, device=device)
        codes = torch.empty(batch, slots, tables, dtype=torch.int32, device=device)
        return cls(planes, masks, on_huge_pages(buckets).fill_(-1), on_huge_pages(codes).fill_(-1))

    @staticmethod
    def directions(width: int, sizes: LshSizes, dtype: torch.dtype, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Make hyperplanes and probe masks, always the same for the same sizes."""
        generator = torch.Generator().manual_seed(0)
        planes = torch.cat([_directions(width, count, generator) for count in (*[sizes.bits] * sizes.tables, SKETCH_BITS)], dim=1)
        return planes.to(device, dtype).contiguous(), probe_masks(sizes.bits, sizes.probes).to(device)

    def tensors(self) -> list[Tensor]:
        """List all buffers."""
        return [self.planes, self.probe_masks, self.buckets, self.codes]


@dataclass
class LshUndo:
    """What one update of rows int64 [B, n] overwrote."""

    tables: LshTables
    rows: Tensor
    places: Tensor  # [B, n, tables, 2] int32 place of its table that was emptied, then filled; where none was emptied, -2 - code before
    entries: Tensor  # [B, n, tables] int64 what was where it was filled; once undone, what the update put there
    sketches: Tensor  # [B, n, tables] int32 sketches where it was emptied
    stands: bool = True  # whether the update is in effect

    def toggle(self) -> None:
        """Undo the update, bit for bit, or redo it."""
        count, redo = self.rows.shape[1], not self.stands
        for e in range(count) if redo else reversed(range(count)):
            for half in (0, 1) if redo else (1, 0):
                places = self.places[:, e, :, half]
                if half:
                    self.entries[:, e] = _exchange(self.tables.buckets, places, self.entries[:, e])
                else:
                    entries = (self.rows[:, e, None] << 32) | (self.sketches[:, e].long() & 0xFFFFFFFF)
                    _exchange(self.tables.buckets, places, torch.full_like(entries, -1) if redo else entries)
            element, present = _present(self.rows[:, e])
            emptied, filled = self.places[present, e].unbind(2)
            capacity = self.tables.buckets.shape[3]
            before = torch.where(emptied < 0, -2 - emptied, emptied // capacity)
            self.tables.codes[element, self.rows[present, e]] = filled // capacity if redo else before
        self.stands = redo


def lsh_fill(tables: LshTables, memory: Tensor, num_candidates: int) -> None:
    """Insert rows 0..num_candidates-1 of memory [B, N, W] into empty tables, as `lsh_update` of all of them in order would."""
    codes, sketches = _hash(tables, memory[:, :num_candidates])
    tables.codes[:, :num_candidates] = codes
    capacity, row = tables.buckets.shape[3], torch.arange(num_candidates, device=memory.device)
    for element in range(len(memory)):
        for table in range(tables.buckets.shape[1]):
            code = codes[element, :, table]
            order = code.argsort(stable=True)
            starts = torch.searchsorted(code[order].contiguous(), code[order].contiguous())
            earlier = torch.empty_like(row).scatter_(0, order, row - starts)  # number of earlier rows in the same bucket
            place = torch.where(earlier < capacity, earlier, row % capacity)
            entries = (row << 32) | sketches[element]
            flat = tables.buckets[element, table].view(-1)
            # amax: of several rows for one entry the last stays, which has the largest number
            flat.scatter_reduce_(0, code * capacity + place, entries, "amax")


def lsh_update(tables: LshTables, memory: Tensor, rows: Tensor) -> LshUndo:
    """Update the tables for the present content of rows int64 [B, n] (-1: none, repeats allowed) of memory [B, N, W]."""
    batch, count = rows.shape
    number, _, capacity = tables.buckets.shape[1:]
    undo = LshUndo(
        tables,
        rows.clone(),
        rows.new_full((batch, count, number, 2), -1, dtype=torch.int32),
        rows.new_full((batch, count, number), -1),
        rows.new_full((batch, count, number), -1, dtype=torch.int32),
    )
    element = torch.arange(batch, device=rows.device)
    table = torch.arange(number, device=rows.device)[None]
    codes, sketches = _hash(tables, memory[element[:, None], rows.clamp_min(0)])
    for e in range(count):
        row, present = rows[:, e], rows[:, e, None] >= 0
        after = codes[:, e]
        before = torch.where(present, tables.codes[element, row.clamp_min(0)].long(), -1)
        bucket = tables.buckets[element[:, None], table, before.clamp_min(0)]  # [B, tables, capacity]
        stands, at = (((bucket >> 32) == row[:, None, None]) & (before >= 0).unsqueeze(2)).max(dim=2)
        stays = stands & (before == after)
        emptied = torch.where(present & stands & ~stays, before * capacity + at, -1)
        undo.places[:, e, :, 0] = torch.where(emptied < 0, -2 - before, emptied)
        left = _exchange(tables.buckets, emptied, torch.full_like(emptied, -1))
        undo.sketches[:, e] = left.int()  # the lower half: the sketch
        free, first_free = (tables.buckets[element[:, None], table, after] < 0).max(dim=2)
        place = after * capacity + torch.where(free, first_free, row[:, None].clamp_min(0) % capacity)
        filled = torch.where(present, torch.where(stays, before * capacity + at, place), -1)
        entry = (row << 32) | sketches[:, e]
        undo.places[:, e, :, 1] = filled
        undo.entries[:, e] = _exchange(tables.buckets, filled, entry[:, None].expand_as(filled))
        kept, written = _present(row)
        tables.codes[kept, row[written]] = after[written].int()
    return undo


def lsh_query(tables: LshTables, memory: Tensor, queries: Tensor, k: int, rerank: int) -> Tensor:
    """Find the k rows most similar to each of queries [B, R, W]. Only the `rerank` probed entries with the nearest sketches are scored.

    Returns:
        int64 [B, R, k], best first, of equal rows the lower one; -1 where there are fewer.
        A query that is not finite and finds none reads row 0, so that what is read is not finite either.
    """
    number, buckets, _ = tables.buckets.shape[1:]
    bits = buckets.bit_length() - 1
    projections = queries.to(tables.planes.dtype) @ tables.planes
    margins = projections[..., : number * bits].unflatten(-1, (number, bits))
    index = torch.full((*queries.shape[:2], k), -1, dtype=torch.int64, device=queries.device)
    table = torch.arange(number, device=queries.device)[:, None]
    for b, r in [(b, r) for b in range(queries.shape[0]) for r in range(queries.shape[1])]:
        entries = tables.buckets[b][table, _probed(margins[b, r], tables.probe_masks)].flatten()  # by table, probe, place
        distance = _distances(entries, projections[b, r, number * bits :])
        nearest = distance.argsort(stable=True)[:rerank]
        rows = entries[nearest[distance[nearest] <= FARTHEST].sort().values] >> 32
        candidates = memory[b, rows].to(queries.dtype)
        scores = candidates @ queries[b, r] / torch.sqrt(candidates.square().sum(-1) + EPSILON)
        ranked = torch.where(scores.isnan(), torch.inf, scores).tolist()
        by_score = sorted(zip(ranked, rows.tolist(), strict=True), key=lambda found: (-found[0], found[1]))
        best = list(dict.fromkeys(row for _, row in by_score))[:k]
        if not best and not bool(queries[b, r].isfinite().all()):
            best = [0]
        index[b, r, : len(best)] = index.new_tensor(best)
    return index


def probe_masks(bits: int, probes: int) -> Tensor:
    """Choose the bits that each probe flips, the probe likeliest to find a near row first: int32 [probes], bit i is the i-th least certain.

    The cost of a set is the sum of its squared margins, which are taken as quantiles of a normal distribution (Lv et al. 2007, 4.4).
    """
    reach = min(bits, REACH)
    costs = [NormalDist().inv_cdf(0.5 + (bit + 0.5) / (2 * bits)) ** 2 for bit in range(reach)]
    by_cost = sorted(range(1 << reach), key=lambda mask: (sum(cost for bit, cost in enumerate(costs) if mask >> bit & 1), mask))
    return torch.tensor(by_cost[:probes], dtype=torch.int32, device="cpu")


def _directions(width: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` random unit vectors, [W, count], orthogonal in groups of W."""
    normal = [torch.randn(width, width, generator=generator, dtype=torch.float32, device="cpu") for _ in range(math.ceil(count / width))]
    groups = [torch.linalg.qr(matrix).Q for matrix in normal]
    return torch.cat(groups, dim=1)[:, :count] if groups else torch.empty(width, 0, dtype=torch.float32, device="cpu")


def _signs(projections: Tensor) -> Tensor:
    """[..., n] -> int64 [...]: bit i is set where projection i is above zero."""
    return ((projections > 0).long() << torch.arange(projections.shape[-1], device=projections.device)).sum(-1)


def _hash(tables: LshTables, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """[B, n, W] -> codes int64 [B, n, tables], sketches int64 [B, n]."""
    number, buckets, _ = tables.buckets.shape[1:]
    bits = buckets.bit_length() - 1
    projections = vectors.to(tables.planes.dtype) @ tables.planes
    return _signs(projections[..., : number * bits].unflatten(-1, (number, bits))), _signs(projections[..., number * bits :])


def _present(row: Tensor) -> tuple[Tensor, Tensor]:
    """Rows int64 [B], -1: none -> numbers of the batch elements that have a row, and a mask of them [B]."""
    present = row >= 0
    return present.nonzero()[:, 0], present


def _exchange(buckets: Tensor, places: Tensor, entries: Tensor) -> Tensor:
    """Store entries [B, tables] at places [B, tables] of their tables and return the old ones; at place -1 the entry itself is returned."""
    flat = buckets.flatten(2)
    old = flat.gather(2, places.long().clamp_min(0).unsqueeze(2)).squeeze(2)
    new = torch.where(places >= 0, entries, old)
    flat.scatter_(2, places.long().clamp_min(0).unsqueeze(2), new.unsqueeze(2))
    return torch.where(places >= 0, old, entries)


def _probed(margins: Tensor, masks: Tensor) -> Tensor:
    """Choose the buckets to search: projections [tables, bits] -> int64 [tables, probes].

    Bits are ordered by margin; its lowest 5 bits are replaced by the number of the bit, so that there are no ties.
    """
    bits = margins.shape[1]
    place = torch.arange(bits, dtype=torch.int32, device=margins.device)
    order = ((margins.abs().float().view(torch.int32) & ~31) | place).argsort(dim=1)  # [tables, bits] least certain first
    flips = (masks[:, None] >> place & 1).long()  # [probes, bits]
    flipped = (flips[None] << order[:, None]).sum(-1)
    return _signs(margins)[:, None] ^ flipped


def _distances(entries: Tensor, projections: Tensor) -> Tensor:
    """Compute the distance of the sketches of entries int64 [n] from a query, given its projections; beyond FARTHEST for empty entries.

    A differing sign adds 0 to 3: how many of 0.34, 1.02 and 1.7 times the mean projection this one exceeds. Not 1: with words of one number
    all projections are equal, and rounding would decide.
    """
    margins, total = projections.abs(), projections.abs().sum()
    certainty = sum((margins > total * ((2 * degree + 1) * 0.34 / SKETCH_BITS)).long() for degree in range(3))
    differing = (entries[:, None] ^ _signs(projections)) >> torch.arange(SKETCH_BITS, device=entries.device) & 1
    return torch.where(entries < 0, FARTHEST + 1, (differing * certainty).sum(1))
