"""Product-key search on native kernels: csrc/slots/product_keys.h; twin: `kernels/reference/product_keys.py`."""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mann_bench.kernels.native.registration import operator
from mann_bench.kernels.ops.operator import Call, threads_for
from mann_bench.kernels.reference.product_keys import candidate_ranks

SUM_BYTES = 24  # of a `SlotSum`, at most


def product_keys(scores: Tensor, sides: Sequence[int], count: int) -> Tensor:
    """Find the best slots of product keys, the best first; exact (Lample et al. 2019).

    Args:
        scores: [..., S], the factors one after the other.
        sides: n_0 .. n_{F-1}, sizes of the factors.
        count: K, at most N.

    Returns:
        Slots, int64 [..., K].
    """
    slots: Tensor = _product_keys_op(scores.detach(), list(sides), count)
    return slots


def _product_keys(scores: Tensor, sides: list[int], count: int) -> Tensor:
    call = Call("product_keys", scores)
    if scores.dim() == 0 or scores.shape[-1] != sum(sides) or not 1 <= count <= math.prod(sides):
        wanted = f"[..., {sum(sides)}] and at most {math.prod(sides)} slots to find"
        raise ValueError(f"product_keys: scores: expected {wanted}, got {list(scores.shape)} and {count}")
    queries = scores.reshape(-1, sum(sides)).contiguous()
    of_sides, candidates = candidates_of(tuple(sides), count, scores.device)
    stride = scratch_numbers(len(sides), count, candidates, scores.element_size())
    found = torch.empty(len(queries), count, dtype=torch.int64, device=scores.device)
    sizes = {"batch": len(queries), "width": sum(sides), "reads": count, "factors": len(sides), "candidates": candidates}
    sizes |= {"scratch_stride": stride, "threads": threads_for(8 * queries.nbytes)}
    changed = {"index": found, "scratch": scores.new_empty(len(queries), stride)}
    call.run("mb_product_keys", sizes, {"queries": queries, "sides": of_sides}, changed)
    return found.view(*scores.shape[:-1], count)


@functools.lru_cache(maxsize=64)
def candidates_of(sides: tuple[int, ...], count: int, device: torch.device) -> tuple[Tensor, int]:
    """The sizes of the factors on a device, and how many slots are candidates for the `count` best."""
    return torch.tensor(sides, dtype=torch.int64, device=device), len(candidate_ranks(sides, count))


def scratch_numbers(factors: int, count: int, candidates: int, item_bytes: int) -> int:
    """Numbers of scratch that a search needs: a list of each factor's best, and candidates twice."""
    return 2 * factors * count + 2 * candidates * SUM_BYTES // item_bytes


def _slots_like(scores: Tensor, sides: list[int], count: int) -> Tensor:
    return torch.empty(*scores.shape[:-1], count, dtype=torch.int64, device=scores.device)


_product_keys_op = operator(_product_keys, _slots_like)
