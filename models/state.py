"""State of a model between time steps: typed, held by the caller, never hidden on a module."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from mann_bench.kernels.native.huge_pages import on_huge_pages

Fill = Literal["empty", "full"]


@dataclass
class State:
    """Base of all states: every tensor field is batch first, fields may be states themselves.

    A state can be detached (the cut of truncated backpropagation), moved, sliced by batch (`state[2:5]`) and saved with `torch.save`.
    """

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A state of the same type with `function` applied to every tensor."""
        return self._rebuild(function, lambda inner: inner.map(function))

    def detach(self) -> Self:
        """The same values without their history."""
        return self._rebuild(Tensor.detach, lambda inner: inner.detach())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy on another device; `dtype` applies to floating tensors only."""
        return self.map(lambda tensor: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None, copy=True))

    def __getitem__(self, batch: slice) -> Self:
        """A copy for some of the batch elements."""
        return self.map(lambda tensor: tensor[batch].clone())

    def tensors(self) -> list[Tensor]:
        """Every tensor of the state."""
        found: list[Tensor] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                found.append(value)
            elif isinstance(value, State):
                found.extend(value.tensors())
        return found

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors of the state, and of what it holds outside of torch."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors()) + self.outside_bytes

    @property
    def outside_bytes(self) -> int:
        """Bytes held outside of torch, as a library's index does."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return sum(value.outside_bytes for value in values if isinstance(value, State))

    def _rebuild(self, of_tensor: Callable[[Tensor], Tensor], of_state: Callable[["State"], "State"]) -> Self:
        changed: dict[str, object] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = of_tensor(value)
            elif isinstance(value, State):
                changed[field.name] = of_state(value)
        return dataclasses.replace(self, **changed)


@dataclass
class ControllerState(State):
    """LSTM controller and what the heads last read."""

    hidden: Tensor  # [B, H]
    cell: Tensor  # [B, H]
    reads: Tensor  # [B, R, W]


@dataclass
class MANNState(State):
    """Controller and memory of one model; made by `model.initial_state`, passed to and returned by the model."""

    controller: ControllerState
    memory: Any  # the model's own `State`


def initial_rows(batch: int, slots: int, word_size: int, fill: Fill, seed: int, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """Start of a memory, [B, N, W]: zeros (`empty`) or random rows of unit scale (`full`), the same for the same seed on any device."""
    if fill not in ("empty", "full"):
        raise ValueError(f"fill: expected 'empty' or 'full', got {fill!r}")
    rows = on_huge_pages(torch.empty(batch, slots, word_size, device=device, dtype=dtype))
    if fill == "empty":
        return rows.zero_()
    generator = torch.Generator().manual_seed(seed)
    for element in rows:
        for part in element.split(2**16):  # the float32 draws of a large memory need not be held whole
            part.copy_(torch.randn(part.shape, generator=generator, device="cpu").mul_(word_size**-0.5))
    return rows
