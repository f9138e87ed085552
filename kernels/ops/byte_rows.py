"""8-bit copies of rows on native kernels, from which `topk_content` bounds their scores; twin: `kernels/reference/byte_rows.py`."""

import torch
from torch import Tensor

from mann_bench.kernels.native.huge_pages import on_huge_pages
from mann_bench.kernels.native.registration import operator
from mann_bench.kernels.ops.content import expect_copies, parts_of_rows
from mann_bench.kernels.ops.operator import Call, threads_for
from mann_bench.kernels.reference.byte_rows import shape_of


def byte_rows(memory: Tensor, norms: Tensor) -> Tensor:
    """Copy all rows of memory [B, N, W] with `row_norms` [B, N] to bytes, int32 [B, N / 8 up, W / 4 up + 1, 8]; uses all threads."""
    copies = on_huge_pages(memory.new_empty(shape_of(memory), dtype=torch.int32))
    _copy_to_bytes_op(copies, memory, norms, None)
    return copies


def renew_byte_rows(copies: Tensor, memory: Tensor, norms: Tensor, rows: Tensor) -> None:
    """Copy rows int64 [B, n] (-1: none, repeats allowed) anew, in place, after they have changed."""
    _copy_to_bytes_op(copies, memory, norms, rows)


def _copy_to_bytes(copies: Tensor, memory: Tensor, norms: Tensor, rows: Tensor | None) -> None:
    call = Call("byte_rows", norms, memory)
    batch, slots, width = call.expect("memory", memory, call.store, B=None, N=None, W=None)
    call.expect("norms", norms, call.real, B=batch, N=slots)
    expect_copies(call, copies, memory)
    sizes, inputs = {"batch": batch, "slots": slots, "width": width, "parts": 1}, {"memory": memory, "norms": norms}
    if rows is None:
        copies[:, -1:] = 0  # places of the last block beyond the rows
        threads = threads_for(memory.nbytes)
        sizes |= {"threads": threads, "parts": parts_of_rows(memory.device, batch, threads)}
    else:
        _, sizes["updated"] = call.expect("rows", rows, torch.int64, B=batch, n=None)
        call.rows_in_range({"rows": rows}, slots)
        inputs["rows"], sizes["threads"] = rows.contiguous(), threads_for(rows.numel() * width * memory.element_size())
    call.run("mb_copy_to_bytes", sizes, inputs, {"byte_rows": copies})


def _nothing(copies, memory, norms, rows):  # type: ignore[no-untyped-def]
    return None


_copy_to_bytes_op = operator(_copy_to_bytes, _nothing, changes=("copies",))
