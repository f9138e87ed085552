"""Product keys (Lample et al. 2019): sizes of factors, and scores of slots found. Their search: `kernels/reference/product_keys.py`.

S: n_0 + .. + n_{F-1}, scores a head.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mann_bench.kernels.reference.product_keys import largest_side, sizes_in


def sides_of(slots: int, factors: int | str) -> tuple[int, ...]:
    """Split N slots into the sizes of factors.

    Args:
        slots: N.
        factors: F, for F equal sizes, or the sizes themselves, as "32x64".

    Raises:
        ValueError: N is no F-th power, or not the product of the sizes; names the nearest N that fit.
    """
    if isinstance(factors, str):
        sides = sizes_in(factors)
        if sides is None:
            raise ValueError(f"factors: expected a number of factors, or their sizes as '32x64', got {factors!r}")
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


def scores_of(scores: Tensor, sides: Sequence[int], slots: Tensor) -> Tensor:
    """Compute the scores of some slots, differentiable; for backward only their places are kept, none of the other scores.

    scores [..., S], slots int64 [..., K] -> [..., K].
    """
    width = scores.shape[-1]
    first = torch.arange(scores.numel() // width, device=scores.device).view(*slots.shape[:-1], 1) * width
    flat, ends = scores.reshape(-1), [sum(sides[:factor]) for factor in range(len(sides))]
    places = [first + ends[factor] + slots // math.prod(sides[factor + 1 :]) % sides[factor] for factor in range(len(sides))]
    return functools.reduce(torch.add, (flat[place] for place in places))
