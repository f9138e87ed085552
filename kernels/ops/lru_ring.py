"""`LruRing` on native kernels; twin: `kernels/reference/lru_ring.py`, with the same state."""

import torch
from torch import Tensor

from mann_bench.kernels import reference
from mann_bench.kernels.native.registration import operator
from mann_bench.kernels.ops.operator import Call
from mann_bench.kernels.reference.lru_ring import LARGEST, RingMark


class LruRing(reference.LruRing):
    """Least recently used order of `rows` rows for each of `batch` elements: `pop`, `touch` and `undo` are one native call each."""

    def pop(self, idle: Tensor | None = None) -> Tensor:
        """Take the least recently used row of each batch element, int64 [B]; it becomes the most recently used one.

        Args:
            idle: bool [B], elements that take none: their answer is -1; then the plain twin runs.
        """
        if idle is not None:
            return super().pop(idle)
        self.reserve(1)
        rows: Tensor
        rows, old_last, self.head = _lru_pop_op(self.last, self.queue, self.head, self.start, self.tail)
        self._log(rows.unsqueeze(1), old_last)
        return rows

    def touch(self, rows: Tensor, mask: Tensor) -> None:
        """Access rows int64 [B, m] from left to right, those where mask [B, m] holds."""
        accessed = torch.where(mask, rows, -1)
        self.reserve(accessed.shape[1])
        self._log(accessed, _lru_touch_op(self.last, self.queue, accessed, self.tail))

    def undo(self, mark: RingMark, log: list[tuple[Tensor, Tensor]]) -> None:
        """Return to `mark`; O(accesses since then)."""
        if log:
            _lru_undo_op(self.last, self.queue, torch.cat([old_last for _, old_last in log], dim=1), self.tail)
        self.head, self.tail = mark.head, mark.tail

    def _log(self, rows: Tensor, old_last: Tensor) -> None:
        self.tail += rows.shape[1]
        if self._undo is not None:
            self._undo.append((rows, old_last))


def _lru_touch(last: Tensor, queue: Tensor, rows: Tensor, tail: int) -> Tensor:
    call, sizes = _ring("lru_touch", last, queue, tail)
    _, count = call.expect("rows", rows, torch.int64, B=sizes["batch"], m=None)
    rows = rows.contiguous()
    call.rows_in_range({"rows": rows}, sizes["slots"])
    _room(call, sizes, count)
    old_last = last.new_empty(sizes["batch"], count)
    changed = {"ring_last": last, "ring_queue": queue, "old_last": old_last}
    call.run("mb_lru_touch", {**sizes, "reads": count}, {"index": rows}, changed)
    return old_last


def _lru_pop(last: Tensor, queue: Tensor, head: Tensor, start: Tensor | None, tail: int) -> tuple[Tensor, Tensor, Tensor]:
    call, sizes = _ring("lru_pop", last, queue, tail)
    batch, slots = sizes["batch"], sizes["slots"]
    call.expect("head", head, torch.int64, B=batch)
    if start is not None:
        call.expect("start", start, torch.int32, B=batch, N=slots)
    _room(call, sizes, 1)
    head = head.clone()  # marks refer to the old tensor
    rows, old_last = head.new_empty(batch), last.new_empty(batch, 1)
    changed = {"ring_last": last, "ring_queue": queue, "ring_head": head, "index": rows, "old_last": old_last}
    call.run("mb_lru_pop", sizes, {} if start is None else {"ring_start": start}, changed)
    call.rows_in_range({"last (each row's place in the queue); a popped row": rows}, slots, none=False)
    return rows, old_last, head


def _lru_undo(last: Tensor, queue: Tensor, old_last: Tensor, tail: int) -> None:
    call, sizes = _ring("lru_undo", last, queue, tail)
    _, count = call.expect("old_last", old_last, torch.int32, B=sizes["batch"], m=None)
    _room(call, sizes, -count)
    call.run("mb_lru_undo", {**sizes, "reads": count}, {"ring_queue": queue, "old_last": old_last.contiguous()}, {"ring_last": last})


def _ring(op: str, last: Tensor, queue: Tensor, tail: int) -> tuple[Call, dict[str, int]]:
    call = Call(op, torch.empty(0, dtype=torch.float32, device=last.device))  # a ring has no floats: any build will do
    batch, slots = call.expect("last", last, torch.int32, B=None, N=None)
    _, places = call.expect("queue", queue, torch.int32, B=batch, places=None)
    return call, {"batch": batch, "slots": slots, "threads": 1, "ring_tail": tail, "queue_stride": places}


def _room(call: Call, sizes: dict[str, int], appends: int) -> None:
    low, high = sizes["slots"] - min(0, appends), min(sizes["slots"] + sizes["queue_stride"], LARGEST) - max(0, appends)
    if not low <= sizes["ring_tail"] <= high:
        wanted = f"from {low} to {high} (N = {sizes['slots']}, {appends} accesses; LruRing.reserve makes room)"
        raise ValueError(f"{call.op}: tail: expected a place {wanted}, got {sizes['ring_tail']}")


def _positions_like(last, queue, rows, tail):  # type: ignore[no-untyped-def]
    return last.new_empty(last.shape[0], rows.shape[1])


def _popped_like(last, queue, head, start, tail):  # type: ignore[no-untyped-def]
    return head.new_empty(head.shape), last.new_empty(last.shape[0], 1), head.new_empty(head.shape)


def _nothing(last, queue, old_last, tail):  # type: ignore[no-untyped-def]
    return None


_lru_touch_op = operator(_lru_touch, _positions_like, changes=("last", "queue"))
_lru_pop_op = operator(_lru_pop, _popped_like, changes=("last", "queue"))
_lru_undo_op = operator(_lru_undo, _nothing, changes=("last",))
