"""How a pass keeps the rows that it overwrites: as they are, or rounded, in a half or a quarter of the bytes of float32.

Rounded rows come back with a relative error of each number of at most 2^-8 (bfloat16), or with an error of at most 1/254 of the largest
magnitude of their row (int8: levels -127..127 of that magnitude, which is kept beside them). A row that comes back and is kept again comes
back the same, so the error does not grow from pass to pass. A row of levels with a number that is not finite comes back as NaN. Native
twin: `csrc/memory/rounded_rows.h`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

ROUNDED_BYTES = {"exact": 0, "bfloat16": 2, "int8": 1}  # of a number; 0: rows are kept as they are
KINDS = tuple(ROUNDED_BYTES)
LEVELS = 127


class Snapshot(NamedTuple):
    """Rows [.., W] as they are kept; `largest` [.., 1] of int8, else none."""

    rows: Tensor
    largest: Tensor | None = None

    @classmethod
    def of(cls, rows: Tensor, kind: str) -> "Snapshot":
        """Keep rows [.., W]."""
        if kind == "exact":
            return cls(rows)
        if kind == "bfloat16":
            return cls(rows.bfloat16())
        if rows.dtype == torch.bfloat16:  # as it is stored; levels are computed in more digits
            rows = rows.float()
        largest = rows.abs().amax(dim=-1, keepdim=True)
        return cls((rows / largest * LEVELS).round().nan_to_num(0).to(torch.int8), largest)

    def restored(self, dtype: torch.dtype) -> Tensor:
        """The rows [.., W] as they come back."""
        if self.largest is None:
            return self.rows.to(dtype)
        return (self.rows.to(self.largest.dtype) / LEVELS * self.largest).to(dtype)


def bytes_a_row(width: int, item: int, kind: str) -> int:
    """Bytes that a row of so many numbers of `item` bytes takes."""
    return {"exact": width * item, "bfloat16": 2 * width, "int8": width + item}[kind]
