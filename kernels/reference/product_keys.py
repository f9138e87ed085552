"""Product keys (Lample et al. 2019): the K best of N slots from the scores of F factors, in O(F n log n + K log K) for N = n^F.

Slot (i_0, .., i_{F-1}) has the number i_0 n_1 .. n_{F-1} + .. + i_{F-1} and the score sum_f a_f[i_f]. Rank each factor by its scores. A
slot of ranks (r_0, .., r_{F-1}) comes after all slots of ranks no greater in any factor; with itself these are prod_f (r_f + 1). So the K
best are among the slots with prod_f (r_f + 1) <= K, and the search is exact.

The order is total: higher scores first. In a factor equal scores are ranked by their number, and slots of equal sums by their ranks, those
in the first factor first. A NaN counts as -inf, in a factor and in a sum. Sums are made from the first factor to the last, in the type of
the scores; rounding keeps the order of sums, as it is monotone.

F: factors. S: n_0 + .. + n_{F-1}, scores a head. C: candidates.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def largest_side(slots: int, factors: int) -> int:
    """The size n of each factor of the largest n^F that is at most N."""
    side: int = round(max(slots, 0) ** (1 / factors))
    while side**factors > slots:
        side -= 1
    while (side + 1) ** factors <= slots:
        side += 1
    return side


def sizes_in(factors: str) -> tuple[int, ...] | None:
    """The sizes of factors in a text as "32x64"; None if it is no such text."""
    sizes = factors.split("x")
    return tuple(map(int, sizes)) if all(size.isdecimal() and int(size) > 0 for size in sizes) else None


def slots_near(slots: int, factors: object, *, up: bool = False) -> int:
    """The largest number of slots up to N that product keys of these factors may have, or the least from N on.

    Of F = `factors` equal factors that is n^F. Sizes of factors, as "32x64", leave no choice: their product. N itself where
    `factors` is neither.
    """
    if isinstance(factors, str):
        return math.prod(sizes_in(factors) or (slots,))
    if isinstance(factors, bool) or not isinstance(factors, int) or factors < 1:
        return slots
    side = largest_side(slots, factors)
    power: int = (side + 1 if up and side**factors < slots else side) ** factors
    return power


@functools.cache
def candidate_ranks(sides: tuple[int, ...], count: int) -> tuple[tuple[int, ...], ...]:
    """List the ranks (r_0, .., r_{F-1}) with prod_f (r_f + 1) <= count, in the order of their numbers."""
    if not sides:
        return ((),)
    return tuple(
        (rank, *others)
        for rank in range(min(sides[0], count))
        for others in candidate_ranks(sides[1:], count // (rank + 1))
    )  # fmt: skip


@functools.lru_cache(maxsize=64)
def _candidates(sides: tuple[int, ...], count: int, device: torch.device) -> Tensor:
    """The same as int64 [F, C] on a device."""
    return torch.tensor(candidate_ranks(sides, count), dtype=torch.int64, device=device).T.contiguous()


def search(scores: Tensor, sides: Sequence[int], count: int) -> Tensor:
    """Find the best slots, the best first; exact.

    Args:
        scores: [..., S], the factors one after the other.
        sides: n_0 .. n_{F-1}.
        count: K, at most N.

    Returns:
        Slots, int64 [..., K].
    """
    with torch.no_grad():
        ranks = _candidates(tuple(sides), count, scores.device)
        sums: Tensor | None = None
        slots = ranks.new_zeros(())
        for part, side, rank in zip(scores.detach().split(list(sides), dim=-1), sides, ranks, strict=True):
            values, order = part.nan_to_num(-torch.inf, torch.inf, -torch.inf).sort(dim=-1, descending=True, stable=True)
            sums = values[..., rank] if sums is None else sums + values[..., rank]  # [..., C]
            slots = slots * side + order[..., rank]
        assert sums is not None
        best = sums.nan_to_num(-torch.inf, torch.inf, -torch.inf).sort(dim=-1, descending=True, stable=True).indices[..., :count]
        return slots.gather(-1, best)
