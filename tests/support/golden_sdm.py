"""SDM's equations, one head of one element and one slot at a time: every slot scored, a new bank every step, plain autograd.

It shares only parameters with the model. The model, which searches by product keys and rolls its bank back, must equal it.
"""

import itertools
import math

import torch
from torch import Tensor

from mann_bench.models import SDM


def all_scores(scores: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Score every slot by sum_f a_f[i_f], in the order of their numbers: [S] -> [N]."""
    parts = scores.split(list(sides))
    return torch.stack([sum(part[i] for part, i in zip(parts, slot, strict=True)) for slot in itertools.product(*map(range, sides))])


def best_slots(scores: Tensor, sides: tuple[int, ...], count: int) -> list[int]:
    """The best slots by all N scores, NaN as -inf; equal scores by the ranks in each factor, the first factor's first."""

    def value(score: float) -> float:
        return -math.inf if math.isnan(score) else score

    ranks = []
    for part in scores.split(list(sides)):
        order = sorted(range(len(part)), key=lambda i: (-value(float(part[i])), i))
        ranks.append({i: rank for rank, i in enumerate(order)})
    sums = all_scores(scores, sides)
    slots = list(enumerate(itertools.product(*map(range, sides))))
    slots.sort(key=lambda slot: (-value(float(sums[slot[0]])), [rank[i] for rank, i in zip(ranks, slot[1], strict=True)]))
    return [number for number, _ in slots[:count]]


def golden_sdm(model: SDM, x: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """x [T, B, X], start [B, R, N, W] -> y [T, B, Y] and the bank after the last step."""
    outputs, banks = [], []
    for b in range(x.shape[1]):
        y, bank = _one_element(model, x[:, b], [list(start[b, h]) for h in range(model.heads)])
        outputs.append(y)
        banks.append(torch.stack([torch.stack(rows) for rows in bank]))
    return torch.stack(outputs, dim=1), torch.stack(banks)


def _one_element(model: SDM, x: Tensor, bank: list[list[Tensor]]) -> tuple[Tensor, list[list[Tensor]]]:
    hidden = cell = x.new_zeros(model.hidden)
    reads = x.new_zeros(model.heads, model.word_size)
    outputs = []
    for x_t in x:
        source = x_t
        if not model.projected:
            h, c = model.controller(torch.cat([x_t, reads.flatten()])[None], (hidden[None], cell[None]))
            hidden, cell = h[0], c[0]
            source = hidden
        found = [_one_head(model, source, h, bank) for h in range(model.heads)]
        reads = torch.stack(found)
        outputs.append(model.output(torch.cat([hidden, reads.flatten()])))
    return torch.stack(outputs), bank


def _one_head(model: SDM, source: Tensor, head: int, bank: list[list[Tensor]]) -> Tensor:
    size, width, heads = sum(model.sides), model.word_size, model.heads
    at = 0

    def projection(each: int) -> Tensor:
        nonlocal at
        first = at + head * each
        at += heads * each
        return model.interface.weight[first : first + each] @ source + model.interface.bias[first : first + each]

    def address(scores: Tensor, count: int) -> tuple[list[int], Tensor]:
        slots = best_slots(scores.detach(), model.sides, count)
        chosen = all_scores(scores, model.sides)[slots]
        if model.weights == "l2":
            return slots, chosen / chosen.square().sum().sqrt()
        e = torch.exp(model.scale * chosen)
        return slots, e / e.sum()

    keys, queries, value = projection(size), projection(size), projection(width)
    decay, strength = projection(1)[0], torch.sigmoid(projection(1)[0])
    g = -torch.exp(model.gates.log_decay[head]) * torch.log(1 + torch.exp(decay + model.gates.step_bias[head]))
    slots, k = address(keys, model.writes)
    rows = bank[head]
    for n, slot in enumerate(slots):
        rows[slot] = torch.exp(g * k[n] if model.decay == "weighted" else g) * rows[slot]
    r = sum(k[n] * rows[slot] for n, slot in enumerate(slots))
    for n, slot in enumerate(slots):
        rows[slot] = rows[slot] + k[n] * strength * (value - r)
    slots, q = address(queries, model.reads)
    y = torch.stack([q[m] * rows[slot] for m, slot in enumerate(slots)]).sum(0)
    if model.layer_norm is not None:
        mean = y.mean()
        y = (y - mean) / torch.sqrt((y - mean).square().mean() + model.layer_norm.eps) * model.layer_norm.weight + model.layer_norm.bias
    return y * torch.sigmoid(projection(width)) if model.gate else y
