"""`topk_content` on native kernels; twin: `kernels/reference/content.py`."""

import torch
from torch import Tensor

from mann_bench.kernels.native.call import scratch
from mann_bench.kernels.native.registration import operator
from mann_bench.kernels.ops.operator import Call, threads_for
from mann_bench.kernels.reference.byte_rows import WIDEST, shape_of

PARTS_PER_THREAD = 4  # of the rows, so that a late or slow thread takes fewer


def topk_content(
    memory: Tensor,
    norms: Tensor,
    queries: Tensor,
    k: int,
    num_candidates: int,
    *,
    scan_all: bool = True,
    byte_rows: Tensor | None = None,
) -> Tensor:
    """Find the k rows most similar to each query, best first, of equal rows the lower one. A row whose similarity is NaN comes first.

    Args:
        memory: [B, N, W], may be bfloat16.
        norms: [B, N], cached `row_norms(memory)`.
        queries: [B, R, W].
        num_candidates: rows `0..num_candidates-1` are candidates. Rows are first written in row order, so these were written since reset.
        scan_all: score all N rows and mask the others (index `exact`), or touch only the candidates (index `live`).
        byte_rows: `ops.byte_rows(memory, norms)`: with it only rows that these do not rule out are scored, and the result is the same.

    Returns:
        int64 [B, R, k], -1 where there are fewer candidates.
    """
    index: Tensor = _topk_content_op(memory, norms, queries, k, num_candidates, scan_all, byte_rows)
    return index


def _topk_content(
    memory: Tensor, norms: Tensor, queries: Tensor, k: int, num_candidates: int, scan_all: bool, byte_rows: Tensor | None = None
) -> Tensor:
    call = Call("topk_content", norms, memory)
    batch, slots, width = call.expect("memory", memory, call.store, B=None, N=None, W=None)
    call.expect("norms", norms, call.real, B=batch, N=slots)
    _, heads, _ = call.expect("queries", queries, call.real, B=batch, R=None, W=width)
    if k < 1:
        raise ValueError(f"topk_content: k: expected at least 1 row a head, got {k}")
    if not 0 <= num_candidates <= slots:
        raise ValueError(f"topk_content: num_candidates: expected a number of rows from 0 to N = {slots}, got {num_candidates}")
    threads = threads_for(batch * (slots if scan_all else num_candidates) * width * memory.element_size())
    parts = parts_of_rows(memory.device, batch, threads)
    sizes = {"batch": batch, "slots": slots, "width": width, "heads": heads, "reads": k, "threads": threads, "parts": parts}
    sizes |= {"scan_all": int(scan_all), "num_candidates": num_candidates}
    inputs = {"memory": memory, "norms": norms, "queries": queries.contiguous()}
    if byte_rows is not None:
        expect_copies(call, byte_rows, memory)
        inputs["byte_rows"] = byte_rows
    _, part_numbers = scratch(call.which, (("heads", heads), ("reads", k), ("width", width)), memory.device)
    index = memory.new_empty(batch, heads, k, dtype=torch.int64)
    best = {"part_rows": index.new_empty(batch, parts, heads, k, dtype=torch.int32), "part_scores": norms.new_empty(batch, parts, heads, k)}
    call.run("mb_topk_part", sizes, inputs, {**best, "part_scratch": norms.new_empty(batch, parts, part_numbers)})
    call.run("mb_topk_merge", sizes, inputs, {**best, "scratch": norms.new_empty(batch, heads * k), "index": index})
    return index


def expect_copies(call: Call, copies: Tensor, memory: Tensor) -> None:
    """ValueError unless these are `byte_rows` of rows of this shape."""
    if memory.shape[2] > WIDEST:
        raise ValueError(f"{call.op}: memory: expected rows of at most {WIDEST} numbers to be copied to bytes, got {memory.shape[2]}")
    _, blocks, words, rows = shape_of(memory)
    call.expect("byte_rows", copies, torch.int32, B=memory.shape[0], blocks=blocks, words=words, rows=rows)


def parts_of_rows(device: torch.device, batch: int, threads: int) -> int:
    """Choose into how many parts to divide the rows of one batch element, for CPU threads or the multiprocessors of a GPU."""
    if device.type == "cuda":
        threads = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, PARTS_PER_THREAD * threads // max(1, batch)) if threads > 1 else 1


def _like(memory, norms, queries, k, num_candidates, scan_all, byte_rows=None):  # type: ignore[no-untyped-def]
    return queries.new_empty(*queries.shape[:2], k, dtype=torch.int64)


_topk_content_op = operator(_topk_content, _like)
