"""Random configurations of SAM and SDNC: sizes, options, number types, and hostile numbers in some place."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mann_bench.kernels.reference import row_norms
from mann_bench.models import SAM, SDNC

SLOTS = (2, 3, 4, 5, 7, 8, 13, 16, 31, 32, 61, 64, 67, 128, 257, 300)
SIZES = (1, 2, 3, 5, 7, 8, 9, 13, 16, 17, 31, 32, 37)
PLACES = ("input", "parameter", "memory", "hidden", "cell", "reads")
VALUES = {
    torch.float32: {"zero": 0.0, "denormal": 1e-45, "tiny": 1e-30, "large": 1e12, "huge": 3e38, "inf": torch.inf, "nan": torch.nan},
    torch.float64: {"zero": 0.0, "denormal": 5e-324, "tiny": 1e-200, "large": 1e12, "huge": 1.7e308, "inf": torch.inf, "nan": torch.nan},
}
HOSTILE = ("none", "none", "none", "equal rows", "zero parameters", *VALUES[torch.float32])


@dataclass(frozen=True)
class Configuration:
    """One draw; the same for the same seed.

    Attributes:
        options: of the model.
        chunks: steps of each call, whose state the next one starts from.
        hostile: what is unusual: a name of `VALUES`, which stands in some numbers of `place`; "equal rows", "zero parameters", or "none".
    """

    seed: int
    kind: str
    options: dict[str, Any]
    dtype: torch.dtype
    storage: torch.dtype | None
    fill: str
    batch: int
    chunks: tuple[int, ...]
    scale: float
    hostile: str
    place: str

    @property
    def store(self) -> str | None:
        """Number type of the rows, as a build names it."""
        return None if self.storage is None else "bfloat16"

    def model(self, kernels: str) -> Any:
        """The model, the same numbers for all kernels."""
        torch.manual_seed(self.seed)
        kind = SAM if self.kind == "sam" else SDNC
        made: Any = kind(**self.options, kernels=kernels, storage=self.storage).to(self.dtype)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.normal_(std=self.scale)
            if self.hostile == "zero parameters":
                chosen = random.Random(self.seed)
                for parameter in made.parameters():
                    parameter.mul_(chosen.choice((0, 1)))
            self._spoil("parameter", *made.parameters())
        return made

    def inputs(self) -> list[Tensor]:
        """The input of each chunk [T, B, X]."""
        generator = torch.Generator().manual_seed(self.seed)
        chunks = [
            torch.randn(steps, self.batch, self.options["input_size"], generator=generator, dtype=self.dtype) for steps in self.chunks
        ]
        self._spoil("input", *chunks)
        return chunks

    def start(self, model: Any, change: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> Any:
        """The state that the first chunk starts from; `change` is applied to its rows and numbers."""
        state = model.initial_state(self.batch, fill=self.fill, seed=self.seed)
        rows, controller = state.memory.rows, state.controller
        generator = torch.Generator().manual_seed(self.seed)
        for tensor in (controller.hidden, controller.cell, controller.reads):
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=self.dtype))
        if self.hostile == "equal rows":
            rows.memory.copy_(rows.memory[:, :1].clone().expand_as(rows.memory))
        self._spoil("memory", rows.memory)
        for name in ("hidden", "cell", "reads"):
            self._spoil(name, getattr(controller, name))
        for tensor in (rows.memory, controller.hidden, controller.cell, controller.reads):
            tensor.copy_(change(tensor))
        rows.norms.copy_(row_norms(rows.memory.to(rows.norms.dtype)))
        rows.index.build(rows)
        return state

    def _spoil(self, place: str, *tensors: Tensor) -> None:
        """Put the hostile value into one or a third of the numbers of one of the tensors, if this is its place."""
        if place != self.place or self.hostile not in VALUES[self.dtype]:
            return
        chosen = random.Random(self.seed)
        numbers = chosen.choice(tensors).view(-1)
        first = chosen.randrange(len(numbers))
        where = slice(first, None, 3) if chosen.random() < 0.5 else slice(first, first + 1)
        numbers[where] = VALUES[self.dtype][self.hostile]


def draw(seed: int) -> Configuration:
    """Draw a configuration."""
    chance = random.Random(seed)
    kind = chance.choice(("sam", "sdnc"))
    heads = chance.randint(1, 5)
    slots = chance.choice([slots for slots in SLOTS if slots >= 2 * heads])
    options: dict[str, Any] = {
        "input_size": chance.randint(1, 7),
        "output_size": chance.randint(1, 5),
        "hidden": chance.choice(SIZES),
        "word_size": chance.choice(SIZES),
        "slots": slots,
        "heads": heads,
        "reads": chance.randint(1, min(8, slots)),
        "index": chance.choice(("exact", "live", "lsh")),
        "erase": chance.choice(("always", "gated")),
        "strength": chance.random() < 0.7,
        "write_heads": 1 if kind == "sdnc" else chance.choice((1, heads)),
    }
    if kind == "sdnc":
        options["link_entries"] = chance.randint(1, 8)
    return Configuration(
        seed=seed,
        kind=kind,
        options=options,
        dtype=chance.choice((torch.float32, torch.float64)),
        storage=chance.choice((None, None, None, torch.bfloat16)),
        fill=chance.choice(("empty", "full")),
        batch=chance.randint(1, 5),
        chunks=tuple(chance.randint(1, 7) for _ in range(chance.randint(1, 2))),
        scale=chance.choice((0.1, 0.3, 1.0)),
        hostile=chance.choice(HOSTILE),
        place=chance.choice(PLACES),
    )
