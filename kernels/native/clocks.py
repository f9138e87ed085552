"""Time of each phase inside native sequence calls, by the kernels' own clocks (`csrc/sequence/clocks.h`), which run only on request."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mann_bench.kernels.native.headers import phases

PHASES = phases()


@dataclass
class Clocks:
    """Of the calls that were watched: (direction, [B, phases + 1] ns); of elements that went through together the first has them."""

    calls: list[tuple[str, Tensor]] = field(default_factory=list)

    def start(self, direction: str, batch: int, device: torch.device) -> dict[str, Tensor]:
        """The buffer, by name, for one more call."""
        clocks = torch.zeros(batch, len(PHASES) + 1, dtype=torch.int64, device=device)
        self.calls.append((direction, clocks))
        return {"clocks": clocks}

    def spent_ns(self, abreast: int) -> dict[tuple[str, str], float]:
        """By direction and phase, a call; `abreast`: how many blocks the device works on at once (CPU threads, a GPU's multiprocessors)."""
        found: dict[tuple[str, str], float] = defaultdict(float)
        for direction, clocks in self.calls:
            blocks = clocks[clocks[:, -1] > 0, :-1].double()
            of_call = blocks.sum(dim=0) / max(1, min(abreast, len(blocks))) / sum(own == direction for own, _ in self.calls)
            for phase, ns in zip(PHASES, of_call.tolist(), strict=True):
                found[direction, phase] += ns
        return {place: ns for place, ns in found.items() if ns}


_watching: ContextVar[Clocks | None] = ContextVar("watching", default=None)


@contextmanager
def clocked() -> Iterator[Clocks]:
    """Watch the native sequences whose forward runs inside; their backward is watched too, wherever it runs."""
    clocks = Clocks()
    token = _watching.set(clocks)
    try:
        yield clocks
    finally:
        _watching.reset(token)


def watching() -> Clocks | None:
    """The clocks that a pass beginning now is to keep."""
    return _watching.get()
