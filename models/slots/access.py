"""What the steps of a model with a bank of slots write and read."""

from typing import NamedTuple

import torch
from torch import Tensor

from mann_bench.kernels.sequence.lengths import Lengths


class Write(NamedTuple):
    """What a step writes to K slots a head, all different."""

    rows: Tensor  # [B, R, Kw] int64
    weights: Tensor  # [B, R, Kw] k
    values: Tensor  # [B, R, W] v
    decay: Tensor  # [B, R] g, the logarithm of what is kept
    strength: Tensor  # [B, R] beta


class Read(NamedTuple):
    """What a step reads, after its write."""

    rows: Tensor  # [B, R, Kr] int64, all different
    weights: Tensor  # [B, R, Kr] q


class Access(NamedTuple):
    """What a step does to the bank, for some steps or for one."""

    write_rows: Tensor  # [.., B, R, Kw] int64, as indices into the flattened bank
    write_weights: Tensor  # [.., B, R, Kw]
    values: Tensor  # [.., B, R, W]
    decay: Tensor  # [.., B, R]
    strength: Tensor  # [.., B, R]
    read_rows: Tensor  # [.., B, R, Kr] int64
    read_weights: Tensor  # [.., B, R, Kr]
    output_gate: Tensor  # [.., B, R, W], or [.., B, R, 0] without one


def accesses(prepared: Access) -> tuple[Write, Read]:
    """What is written and read."""
    write = Write(prepared.write_rows, prepared.write_weights, prepared.values, prepared.decay, prepared.strength)
    return write, Read(prepared.read_rows, prepared.read_weights)


def last_of(reads: Tensor, lengths: Lengths | None, before: Tensor) -> Tensor:
    """The reads [B, R, W] of each element's last step, of reads [T, B, R, W]; `before` where it has none."""
    if lengths is None:
        return reads[-1] if len(reads) else before
    return torch.stack([reads[each - 1, b] if each else before[b] for b, each in enumerate(lengths.each)])
