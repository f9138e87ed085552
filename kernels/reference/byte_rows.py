"""8-bit copies of rows and the bounds of scores made of them, in plain torch.

What is stored, and why the bounds hold: `csrc/memory/byte_rows.h`.

A copy of a row u = row / norm is bytes c and a scale s with an error e >= |u - s c|; a query is rounded to bytes d likewise.
"""

import torch
from torch import Tensor

BLOCK_ROWS = 8  # whose copies lie together
ROW_LEVELS, QUERY_LEVELS = 127, 63
WIDEST = 4096  # numbers of a row: what a bound assumes
LEAST_SCALE = 2.0**-100
NORMS, QUERIES = (2.0**-10, 2.0**40), (2.0**-40, 2.0**40)  # of rows, and largest magnitudes of queries, that have bounds


def shape_of(memory: Tensor) -> tuple[int, int, int, int]:
    """The shape of the copies of memory [B, N, W]."""
    batch, slots, width = memory.shape
    return batch, -(-slots // BLOCK_ROWS), -(-width // 4) + 1, BLOCK_ROWS


def slack(width: int) -> float:
    """What roundings of sums over a row may add, relative to its length."""
    return (width + 64) * 2.0**-22


def half_above(numbers: Tensor) -> Tensor:
    """The upper halves, int32, of the least floats with 16 bits that are not below numbers >= 0, float32."""
    return (numbers.view(torch.int32) + 0xFFFF) >> 16


def byte_rows(memory: Tensor, norms: Tensor) -> Tensor:
    """Copy all rows of memory [B, N, W] with `row_norms` [B, N] to bytes, int32 [B, N / 8 up, W / 4 up + 1, 8]."""
    batch, slots, width = memory.shape
    unit = (memory.to(norms.dtype) * (1 / norms).unsqueeze(2)).float()
    largest = unit.abs().amax(2).nan_to_num(torch.inf, torch.inf)
    sound = (largest < 2) & (norms >= NORMS[0]) & (norms <= NORMS[1])
    scale = torch.where(sound, half_above((largest / ROW_LEVELS).clamp(min=LEAST_SCALE)), 0) << 16
    levels = torch.where(sound, 1 / scale.view(torch.float32), 0).unsqueeze(2)
    unit = torch.where(sound.unsqueeze(2), unit, 0)
    bytes_of = (unit * levels).round()
    rest = (unit - scale.view(torch.float32).unsqueeze(2) * bytes_of).square().sum(2).sqrt()
    error = rest * (1 + slack(width)) + slack(width)
    error = torch.where(sound & (unit.square().sum(2) <= 1.01), error, torch.inf)
    half = torch.where(error < torch.inf, half_above(error), 0x7F80)
    _, blocks, words, rows = shape_of(memory)
    padded = torch.nn.functional.pad(bytes_of.int() + 127, (0, 4 * (words - 1) - width), value=127)
    shifts = torch.tensor([0, 8, 16, 24], dtype=torch.int32, device=memory.device)
    packed = torch.cat([(padded.unflatten(2, (-1, 4)) << shifts).sum(3, dtype=torch.int32), (scale | half).unsqueeze(2)], dim=2)
    packed = torch.nn.functional.pad(packed, (0, 0, 0, blocks * rows - slots))
    return packed.view(batch, blocks, rows, words).transpose(2, 3).contiguous()


def renew_byte_rows(copies: Tensor, memory: Tensor, norms: Tensor, rows: Tensor) -> None:
    """Copy rows int64 [B, n] (-1: none, repeats allowed) anew, in place, after they have changed."""
    element, place = (rows >= 0).nonzero(as_tuple=True)
    row = rows[element, place]
    fresh = byte_rows(memory[element, row].unsqueeze(1), norms[element, row].unsqueeze(1))[:, 0, :, 0]
    copies[element, row // BLOCK_ROWS, :, row % BLOCK_ROWS] = fresh


def score_bounds(copies: Tensor, queries: Tensor) -> Tensor:
    """Bound the scores `query . row / norm` of all rows from above.

    Args:
        copies: int32 [B, N / 8 up, W / 4 up + 1, 8].
        queries: [B, R, W].

    Returns:
        float32 [B, R, N up]; infinity or NaN where there is no bound.
    """
    width = queries.shape[2]
    packed = copies.transpose(2, 3).flatten(1, 2)  # [B, N, words + 1]
    shifts = torch.tensor([0, 8, 16, 24], dtype=torch.int32, device=copies.device)
    rows = ((packed[..., :-1].unsqueeze(-1) >> shifts) & 255).flatten(2)[..., :width] - ROW_LEVELS
    pair = packed[..., -1:].contiguous()
    scale, error = ((bits << shift).view(torch.float32).transpose(1, 2) for bits, shift in ((pair >> 16, 16), (pair & 0xFFFF, 16)))
    numbers = queries.float()
    largest = numbers.abs().amax(2, keepdim=True)
    sound = (largest >= QUERIES[0]) & (largest <= QUERIES[1])
    part = torch.where(sound, numbers / largest, 0)
    level = (part * QUERY_LEVELS).round()
    more = slack(width)
    size, missing = ((part - taken).square().sum(2, keepdim=True).sqrt() * (1 + more) + more for taken in (0 * part, level / QUERY_LEVELS))
    constant = torch.where(sound, largest * (1.01 * missing + more * size), torch.inf)
    sums = (level.double() @ rows.double().transpose(1, 2)).float()  # whole numbers, exact
    return sums * (scale * (largest / QUERY_LEVELS)) + error * (largest * (size + missing)) + constant
