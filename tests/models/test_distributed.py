"""`DistributedDataParallel` on two processes: the gradients are those of one process with the whole batch."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tests.support.models import make

NAMES = ("lstm", "dnc", "sam", "sdnc-native")
PROCESSES, BATCH, STEPS = 2, 4, 6


def gradients(name: str, wrap: Any, part: slice) -> list[Tensor]:
    """Of the mean over a part of the batch, of two chained passes and of one after the memory has gone on."""
    torch.manual_seed(0)
    model = make(name)
    x = torch.randn(STEPS, BATCH, 4, dtype=torch.float64)[:, part]
    wrapped, state = wrap(model), model.initial_state(x.shape[1])
    for chunk in x.split(STEPS // 2):
        y, state = wrapped(chunk, state)
        y.square().mean().backward()
        state = state.detach()
    return [parameter.grad for parameter in model.parameters()]


def of_one_process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    part, own = BATCH // PROCESSES, {}
    for name in NAMES:
        for unused in (False, True):
            wrap = lambda model, unused=unused: DistributedDataParallel(model, find_unused_parameters=unused)  # noqa: E731
            own[name, unused] = gradients(name, wrap, slice(rank * part, (rank + 1) * part))
    torch.save(own, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    mp.spawn(of_one_process, args=(str(tmp_path),), nprocs=PROCESSES)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(PROCESSES)]
    for name, unused in found[0]:
        expected = gradients(name, lambda model: model, slice(None))
        for own in found:
            for got, wanted in zip(own[name, unused], expected, strict=True):
                torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12, msg=name)
