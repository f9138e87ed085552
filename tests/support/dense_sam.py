"""SAM in its simplest form: a dense copy of the memory every step, the ring as a list, one element and head at a time, plain autograd.

It shares only parameters with the model. The sparse implementation, which rolls its memory back, must equal it.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mann_bench.models import SAM

EPSILON = 1e-6


@dataclass
class DenseRun:
    """The results of a run; lists have one entry per batch element."""

    y: Tensor
    memory: list[Tensor] = field(default_factory=list)
    order: list[list[int]] = field(default_factory=list)
    selected: list[list[list[int]]] = field(default_factory=list)  # per element: rows read, step by step and head by head


def cosine(query: Tensor, row: Tensor) -> Tensor:
    """With epsilon inside each norm."""
    return query @ row / torch.sqrt(query @ query + EPSILON) / torch.sqrt(row @ row + EPSILON)


def dense_sam(model: SAM, x: Tensor, start: Tensor, full: bool) -> DenseRun:
    """x [T, B, X], start [B, N, W]."""
    run = DenseRun(y=torch.empty(0))
    run.y = torch.stack([_one_element(model, x[:, b], start[b], full, run) for b in range(x.shape[1])], dim=1)
    return run


def _one_element(model: SAM, x: Tensor, memory: Tensor, full: bool, run: DenseRun) -> Tensor:
    order, written = list(range(model.slots)), model.slots if full else 0
    hidden = cell = x.new_zeros(model.hidden)
    reads = x.new_zeros(model.heads, model.word_size)
    last: list[list[tuple[int, Tensor]]] = [[] for _ in range(model.heads)]
    outputs, selected = [], []

    def access(row: int) -> None:
        order.remove(row)
        order.append(row)

    for x_t in x:
        h, c = model.controller(torch.cat([x_t, reads.flatten()])[None], (hidden[None], cell[None]))
        hidden, cell = h[0], c[0]
        parts = model.interface(hidden)
        queries, parts = parts[: model.heads * model.word_size].view(model.heads, -1), parts[model.heads * model.word_size :]
        betas, parts = 1 + torch.nn.functional.softplus(parts[: model.heads]), parts[model.heads :]
        values, parts = (
            parts[: model.write_heads * model.word_size].view(model.write_heads, -1),
            parts[model.write_heads * model.word_size :],
        )
        alpha, gamma = torch.sigmoid(parts[: model.write_heads]), torch.sigmoid(parts[model.write_heads :])

        previous = last
        if model.write_heads < model.heads:
            mean: dict[int, Tensor] = {}
            for row, weight in (entry for head in last for entry in head):
                mean[row] = mean.get(row, x.new_zeros(())) + weight / model.heads
            previous = [list(mean.items())]
        for head in range(model.write_heads):
            unused = order[0]
            access(unused)
            write = [(row, alpha[head] * gamma[head] * weight) for row, weight in previous[head]]
            write.append((unused, alpha[head] * (1 - gamma[head])))
            for row, weight in write:
                if weight > 0.005:
                    access(row)
            keep = torch.ones(model.slots, 1, dtype=x.dtype)
            if model.erase == "always" or write[-1][1] > 0.005:
                keep[unused] = 0
            memory = memory * keep
            for row, weight in write:
                one_hot = torch.zeros(model.slots, 1, dtype=x.dtype)
                one_hot[row] = 1
                memory = memory + one_hot * (weight * values[head])
        written = min(model.slots, written + model.write_heads)

        last, found = [], []
        for head in range(model.heads):
            scores = torch.stack([cosine(queries[head], memory[row]) for row in range(written)])
            rows = scores.topk(min(model.reads, written)).indices.tolist()
            weights = torch.softmax(betas[head] * scores[rows], dim=0)
            last.append(list(zip(rows, weights, strict=True)))
            found.append(weights @ memory[rows])
            selected.append(rows)
        for head in range(model.heads):
            for row, weight in last[head]:
                if weight > 0.005:
                    access(row)
        reads = torch.stack(found)
        outputs.append(model.output(torch.cat([hidden, reads.flatten()])))
    run.memory.append(memory.detach())
    run.order.append(order)
    run.selected.append(selected)
    return torch.stack(outputs)
