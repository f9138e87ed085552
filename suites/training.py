"""Does it learn? Trains one model on one task with one seed: `python -m mann_bench.suites.training copy sam --seed 1`.

Adam, gradient norm clipped, a task sequence of random difficulty each batch; the loss is in bits per bit asked for, chance is 1. Ends when
the mean of the last hundred batches is under the threshold, or at the limit of sequences. Prints one JSON object.
"""

import argparse
import json
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.case import Case
from mann_bench.registry import find_model
from mann_bench.suites.tasks import copy, pair_recall

WINDOW = 100  # batches whose mean loss is judged

Batch = tuple[Tensor, Tensor, Tensor]
BITS = 8


@dataclass(frozen=True)
class LearningRun:
    """What came of one training run; `curve` holds (sequences, bits per bit) a hundred batches apart."""

    task: str
    model: str
    seed: int
    sequences: int
    bits_per_bit: float
    reached: bool
    wall_s: float
    curve: list[tuple[int, float]]


def copy_of_1_to_8(batch: int, seed: int) -> Batch:
    """Copy of 1 to 8 random bytes, one length a batch."""
    length = int(torch.randint(1, 9, (), generator=torch.Generator().manual_seed(seed)))
    return copy(batch, length, BITS, seed=seed)


def recall_of_2_to_4(batch: int, seed: int) -> Batch:
    """Associative recall of 2 to 4 pairs, key and value shown in one step; one number of pairs a batch."""
    pairs = int(torch.randint(2, 5, (), generator=torch.Generator().manual_seed(seed)))
    return pair_recall(batch, pairs, BITS, seed=seed)


TASKS: dict[str, Callable[[int, int], Batch]] = {"copy": copy_of_1_to_8, "recall": recall_of_2_to_4}


def bits_per_bit(y: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy in bits for each bit asked for: y and targets [T, B, Y], mask [T, B]."""
    losses = functional.binary_cross_entropy_with_logits(y, targets, reduction="none").mean(-1)
    return (losses * mask).sum() / mask.sum() / math.log(2)


def learn(
    task: str,
    model: str,
    *,
    seed: int = 0,
    limit: int = 100_000,
    threshold: float = 0.02,
    batch: int = 16,
    rate: float = 2e-3,
    slots: int = 32,
    heads: int = 1,
    hidden: int = 100,
    budget_s: float = math.inf,
) -> LearningRun:
    """Train until the threshold, `limit` sequences or `budget_s` seconds; the same seed gives the same run."""
    torch.manual_seed(seed)
    width = TASKS[task](1, 0)[0].shape[2]
    case = Case(suite="training", model=model, slots=slots, word_size=16, heads=heads, hidden=hidden, batch=batch, input_size=width)
    network = find_model(model).build(case)
    state = network.initial_state(batch)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    recent: deque[float] = deque(maxlen=WINDOW)
    curve: list[tuple[int, float]] = []
    began, step, mean = time.monotonic(), 0, math.inf
    while step * batch < limit and time.monotonic() - began < budget_s:
        inputs, targets, mask = TASKS[task](batch, seed * 10**9 + step)
        y, _ = network(inputs, state)
        loss = bits_per_bit(y[..., : targets.shape[-1]], targets, mask)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        recent.append(float(loss.detach()))
        step += 1
        mean = sum(recent) / len(recent)
        if step % WINDOW == 0:
            curve.append((step * batch, round(mean, 5)))
            if mean < threshold:
                break
    return LearningRun(task, model, seed, step * batch, mean, mean < threshold, round(time.monotonic() - began, 1), curve)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=100_000, help="sequences")
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threshold", type=float, default=0.02, help="bits per bit at which training ends")
    parser.add_argument("--budget-seconds", type=float, default=math.inf)
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = vars(options)
    chosen["budget_s"] = chosen.pop("budget_seconds")
    run = learn(chosen.pop("task"), chosen.pop("model"), **chosen)
    print(json.dumps(asdict(run)))


if __name__ == "__main__":
    main()
