"""How a pass keeps the rows that it overwrites: as they are, or rounded, in a half or a quarter of the bytes.

Rounded rows come back with a relative error of each number of at most 2^-8 (bfloat16), or of the largest number of its row of at most 1/254
(int8, with one scale a row). A row that comes back and is kept again comes back the same, so the error does not grow from pass to pass.
"""

from typing import NamedTuple

import torch
from torch import Tensor

KINDS = ("exact", "bfloat16", "int8")


class Snapshot(NamedTuple):
    """Rows [n, W] as they are kept; `scale` [n, 1] of int8, else none."""

    rows: Tensor
    scale: Tensor | None = None

    @classmethod
    def of(cls, rows: Tensor, kind: str) -> "Snapshot":
        """Keep rows [n, W]."""
        if kind == "exact":
            return cls(rows)
        if kind == "bfloat16":
            return cls(rows.bfloat16())
        scale = rows.abs().amax(dim=-1, keepdim=True) / 127
        return cls((rows / scale.clamp_min(torch.finfo(rows.dtype).tiny)).round().to(torch.int8), scale)

    def restored(self, dtype: torch.dtype) -> Tensor:
        """The rows [n, W] as they come back."""
        return self.rows.to(dtype) if self.scale is None else self.rows.to(dtype) * self.scale


def bytes_a_row(width: int, item: int, kind: str) -> int:
    """Bytes that a row of so many numbers of `item` bytes takes."""
    return {"exact": width * item, "bfloat16": 2 * width, "int8": width + item}[kind]
