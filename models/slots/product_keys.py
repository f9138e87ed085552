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


def sides_of(slots: int, factors: int | str) -> tuple[int, ...]:
    """Split N slots into the sizes of factors.

    Args:
        slots: N.
        factors: F, for F equal sizes, or the sizes themselves, as "32x64".

    Raises:
        ValueError: N is no F-th power, or not the product of the sizes; names the nearest N that fit.
    """
    if isinstance(factors, str):
        sizes = factors.split("x")
        if not all(size.isdecimal() and int(size) > 0 for size in sizes):
            raise ValueError(f"factors: expected a number of factors, or their sizes as '32x64', got {factors!r}")
        sides = tuple(map(int, sizes))
        if math.prod(sides) != slots:
            raise ValueError(f"slots: expected {math.prod(sides)}, the product of factors = {factors!r}, got {slots!r}")
        return sides
    if isinstance(factors, bool) or not isinstance(factors, int) or factors < 1:
        raise ValueError(f"factors: expected a whole number >= 1, or sizes as '32x64', got {factors!r}")
    side = largest_side(slots, factors)
    if side**factors != slots:
        kind = {2: "a perfect square", 3: "a cube"}.get(factors, f"a power of {factors}")
        near = " or ".join(str(number**factors) for number in (side, side + 1) if number)
        raise ValueError(f"slots: expected {kind} for product keys of {factors} factors, as {near}, got {slots!r}")
    return (side,) * factors


def largest_side(slots: int, factors: int) -> int:
    """The largest whole number whose power of `factors` is at most `slots`."""
    side: int = round(max(slots, 0) ** (1 / factors))
    while side**factors > slots:
        side -= 1
    while (side + 1) ** factors <= slots:
        side += 1
    return side


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


def scores_of(scores: Tensor, sides: Sequence[int], slots: Tensor) -> Tensor:
    """Compute the scores of some slots, differentiable; for backward only their places are kept, none of the other scores.

    scores [..., S], slots int64 [..., K] -> [..., K].
    """
    width = scores.shape[-1]
    first = torch.arange(scores.numel() // width, device=scores.device).view(*slots.shape[:-1], 1) * width
    flat, ends = scores.reshape(-1), [sum(sides[:factor]) for factor in range(len(sides))]
    places = [first + ends[factor] + slots // math.prod(sides[factor + 1 :]) % sides[factor] for factor in range(len(sides))]
    return functools.reduce(torch.add, (flat[place] for place in places))
