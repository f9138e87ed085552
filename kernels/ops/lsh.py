"""`lsh_fill`, `lsh_update` and `lsh_query` on native kernels; twins: `kernels/reference/lsh.py`."""

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mann_bench.kernels.native.arguments import in_order
from mann_bench.kernels.native.call import library_of, run_named
from mann_bench.kernels.native.layout import Build, of_buffers, pack
from mann_bench.kernels.native.registration import operator
from mann_bench.kernels.ops.content import parts_of_rows
from mann_bench.kernels.ops.operator import Call, threads_for
from mann_bench.kernels.reference.lru_ring import LARGEST
from mann_bench.kernels.reference.lsh import LINE, LshTables


@dataclass
class LshUndo:
    """What one update of rows int64 [B, n] overwrote; its tensors are those of the twin's `LshUndo`."""

    tables: LshTables
    memory: Tensor
    rows: Tensor
    places: Tensor
    entries: Tensor
    sketches: Tensor
    stands: bool = True  # whether the update is in effect

    def toggle(self) -> None:
        """Undo the update, bit for bit, or redo it."""
        self.stands = not self.stands
        _lsh_swap_op(*self.tables.tensors(), self.memory, self.rows, self.places, self.entries, self.sketches, self.stands)


def lsh_fill(tables: LshTables, memory: Tensor, num_candidates: int) -> None:
    """Insert rows 0..num_candidates-1 of memory [B, N, W] into empty tables as `lsh_update` of each in order would; uses all threads."""
    _lsh_fill_op(*tables.tensors(), memory, num_candidates)


def lsh_update(tables: LshTables, memory: Tensor, rows: Tensor) -> LshUndo:
    """Update the tables for the present content of rows int64 [B, n] (-1: none, repeats allowed) of memory [B, N, W]."""
    return LshUndo(tables, memory, rows, *_lsh_update_op(*tables.tensors(), memory, rows))


def lsh_query(tables: LshTables, memory: Tensor, queries: Tensor, k: int, rerank: int) -> Tensor:
    """Find the k rows most similar to each of queries [B, R, W]. Only the `rerank` probed entries with the nearest sketches are scored.

    Returns:
        int64 [B, R, k], best first, of equal rows the lower one; -1 where there are fewer.
    """
    index: Tensor = _lsh_query_op(*tables.tensors(), memory, queries, k, rerank)
    return index


def _lsh_fill(planes: Tensor, probe_masks: Tensor, buckets: Tensor, codes: Tensor, memory: Tensor, num_candidates: int) -> None:
    call, sizes, inputs, changed = _tables("lsh_fill", planes, probe_masks, buckets, codes, memory)
    if not 0 <= num_candidates <= sizes["slots"]:
        raise ValueError(f"lsh_fill: num_candidates: expected a number of rows from 0 to N = {sizes['slots']}, got {num_candidates}")
    threads = threads_for(num_candidates * planes.nbytes)
    parts = parts_of_rows(memory.device, sizes["batch"], threads)
    numbers = _scratch(call.which, _fixed(sizes), memory.device)[0]
    changed |= {"sketches": codes.new_empty(codes.shape[:2]), "part_scratch": planes.new_empty(sizes["batch"], parts, numbers)}
    call.run("mb_lsh_hash", {**sizes, "num_candidates": num_candidates, "threads": threads, "parts": parts}, inputs, changed)
    call.run("mb_lsh_fill", {**sizes, "num_candidates": num_candidates, "threads": threads, "parts": sizes["tables"]}, inputs, changed)


def _lsh_update(
    planes: Tensor, probe_masks: Tensor, buckets: Tensor, codes: Tensor, memory: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    call, sizes, inputs, changed = _tables("lsh_update", planes, probe_masks, buckets, codes, memory)
    batch, count = call.expect("rows", rows, torch.int64, B=sizes["batch"], n=None)
    call.rows_in_range({"rows": rows}, sizes["slots"])
    log = _log_like(planes, probe_masks, buckets, codes, memory, rows)
    sizes |= {"updated": count, "threads": threads_for(batch * count * planes.nbytes)}
    numbers = _scratch(call.which, _fixed(sizes), memory.device)[1]
    changed |= dict(zip(_LOG, log, strict=True)) | {"scratch": planes.new_empty(batch, numbers)}
    call.run("mb_lsh_update", {**sizes, "scratch_stride": numbers}, {**inputs, "rows": rows.contiguous()}, changed)
    return log


def _lsh_swap(
    planes: Tensor,
    probe_masks: Tensor,
    buckets: Tensor,
    codes: Tensor,
    memory: Tensor,
    rows: Tensor,
    places: Tensor,
    entries: Tensor,
    sketches: Tensor,
    forward: bool,
) -> None:
    call, sizes, inputs, changed = _tables("lsh_swap", planes, probe_masks, buckets, codes, memory)
    changed |= dict(zip(_LOG, (places, entries, sketches), strict=True))
    call.run(
        "mb_lsh_redo" if forward else "mb_lsh_undo", {**sizes, "updated": rows.shape[1]}, {**inputs, "rows": rows.contiguous()}, changed
    )


def _lsh_query(
    planes: Tensor, probe_masks: Tensor, buckets: Tensor, codes: Tensor, memory: Tensor, queries: Tensor, k: int, rerank: int
) -> Tensor:
    call, sizes, inputs, changed = _querying(planes, probe_masks, buckets, codes, memory, queries, k, rerank)
    index = queries.new_empty(*queries.shape[:2], k, dtype=torch.int64)
    outputs = {"index": index, "scratch": planes.new_empty(sizes["batch"], sizes["scratch_stride"])}
    call.run("mb_lsh_query", sizes, {**inputs, **changed, "queries": queries.contiguous()}, outputs)
    return index


def prepare_query(tables: LshTables, memory: Tensor, queries: Tensor, k: int, rerank: int) -> Callable[[Tensor], Tensor]:
    """Make `lsh_query` for queries of one shape on the CPU. Arguments are checked and packed once, which takes longer than a search."""
    call, sizes, inputs, changed = _querying(tables.planes, tables.probe_masks, tables.buckets, tables.codes, memory, queries, k, rerank)
    buffers = {**inputs, **changed, "scratch": memory.new_empty(sizes["batch"], sizes["scratch_stride"], dtype=call.real)}
    arguments = pack(of_buffers(call.which, tuple(buffers)), list(buffers.values()), in_order(sizes))
    address, search = ctypes.byref(arguments), library_of(call.which).mb_lsh_query
    shape, index_shape = queries.shape, (*queries.shape[:2], k)

    def query(queries: Tensor, held: object = buffers) -> Tensor:
        if queries.shape != shape or queries.dtype is not call.real or not queries.is_contiguous():
            raise ValueError(
                f"lsh_query: queries: expected contiguous {call.real} {list(shape)}, got {queries.dtype} {list(queries.shape)}"
            )
        index = torch.empty(index_shape, dtype=torch.int64, device="cpu")
        arguments.queries, arguments.index = queries.data_ptr(), index.data_ptr()
        search(address)
        return index

    return query


def _querying(
    planes: Tensor, probe_masks: Tensor, buckets: Tensor, codes: Tensor, memory: Tensor, queries: Tensor, k: int, rerank: int
) -> tuple[Call, dict[str, int], dict[str, Tensor], dict[str, Tensor]]:
    call, sizes, inputs, changed = _tables("lsh_query", planes, probe_masks, buckets, codes, memory)
    batch, heads, _ = call.expect("queries", queries, call.real, B=sizes["batch"], R=None, W=sizes["width"])
    for name, value in (("k", k), ("rerank", rerank)):
        if value < 1:
            raise ValueError(f"lsh_query: {name}: expected a whole number >= 1, got {value}")
    sizes |= {"heads": heads, "reads": k, "rerank": rerank}
    sizes["scratch_stride"] = _scratch(call.which, _fixed(sizes), memory.device)[2]
    sizes["threads"] = threads_for(batch * heads * (sizes["tables"] * sizes["probes"] * sizes["capacity"] + rerank * sizes["width"]) * 8)
    return call, sizes, inputs, changed


_LOG = ("log_offsets", "log_entries", "log_sketches")


def _tables(
    op: str, planes: Tensor, probe_masks: Tensor, buckets: Tensor, codes: Tensor, memory: Tensor
) -> tuple[Call, dict[str, int], dict[str, Tensor], dict[str, Tensor]]:
    """Check the tables; returns the call, its sizes, the buffers it only reads, and those it changes."""
    call = Call(op, planes, memory)
    batch, slots, width = call.expect("memory", memory, call.store, B=None, N=None, W=None)
    _, tables, number, capacity = call.expect("buckets", buckets, torch.int64, B=batch, tables=None, buckets=None, capacity=None)
    bits = number.bit_length() - 1
    if number != 1 << bits or capacity % LINE or number * capacity > LARGEST:
        raise ValueError(
            f"{op}: buckets: expected a power of two of them, of a multiple of {LINE} entries, at most {LARGEST} in all, "
            f"got {number} of {capacity}; use LshTables.empty"
        )
    call.expect("codes", codes, torch.int32, B=batch, N=slots, tables=tables)
    call.expect("planes", planes, call.real, W=width, planes=tables * bits + 32)
    (probes,) = call.expect("probe_masks", probe_masks, torch.int32, probes=None)
    sizes = {"batch": batch, "slots": slots, "width": width, "tables": tables, "bits": bits, "capacity": capacity, "probes": probes}
    return call, sizes, {"memory": memory, "planes": planes, "probe_masks": probe_masks}, {"buckets": buckets, "codes": codes}


def _fixed(sizes: dict[str, int]) -> tuple[tuple[str, int], ...]:
    """Drop the sizes that the size of the scratch does not depend on."""
    return tuple((name, size) for name, size in sizes.items() if name not in ("batch", "slots", "threads"))


@functools.lru_cache
def _scratch(which: Build, sizes: tuple[tuple[str, int], ...], device: torch.device) -> tuple[int, int, int]:
    """Return the sizes of the scratch, in numbers: to hash rows per part; to update and to query per batch element."""
    numbers = torch.empty(3, dtype=torch.int64, device=device)
    run_named("mb_lsh_scratch", which, {"index": numbers}, {**dict(sizes), "batch": 1})
    hashing, updating, querying = numbers.tolist()
    return hashing, updating, querying


def _log_like(
    planes: Tensor, probe_masks: Tensor, buckets: Tensor, codes: Tensor, memory: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    batch, count, tables = rows.shape[0], rows.shape[1], buckets.shape[1]
    shape = (batch, count, tables)
    return codes.new_full((*shape, 2), -1), buckets.new_full(shape, -1), codes.new_full(shape, -1)


def _nothing(*arguments):  # type: ignore[no-untyped-def]
    return None


def _index_like(planes, probe_masks, buckets, codes, memory, queries, k, rerank):  # type: ignore[no-untyped-def]
    return queries.new_empty(*queries.shape[:2], k, dtype=torch.int64)


_lsh_fill_op = operator(_lsh_fill, _nothing, changes=("buckets", "codes"))
_lsh_update_op = operator(_lsh_update, _log_like, changes=("buckets", "codes"))
_lsh_swap_op = operator(_lsh_swap, _nothing, changes=("buckets", "codes", "places", "entries", "sketches"))
_lsh_query_op = operator(_lsh_query, _index_like)
