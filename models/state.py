"""State of a model between time steps: typed, held by the caller, never hidden on a module."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, Self, TypeVar

import torch
from torch import Tensor

from mann_bench.kernels.native.huge_pages import on_huge_pages

Fill = Literal["empty", "full"]


@dataclass
class State:
    """Base of all states: every tensor field is batch first, fields may be states themselves.

    A state can be detached (the cut of truncated backpropagation), moved, sliced by batch (`state[2:5]`) and saved with `torch.save`.

    Attributes:
        ledger_causes: names of fields and the cause under which the memory ledger counts them (`mann_bench.measure.ledger.CAUSES`);
            a field without one counts as the state that holds this one does, in the end as "state".
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {}

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply `function` to every tensor; returns a state of the same type."""
        return self._rebuild(function, lambda inner: inner.map(function))

    def detach(self) -> Self:
        """Return the same values without their autograd history."""
        return self._rebuild(Tensor.detach, lambda inner: inner.detach())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Copy to another device; `dtype` applies to floating tensors only."""
        return self.map(lambda tensor: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None, copy=True))

    def __getitem__(self, batch: slice) -> Self:
        """Copy some of the batch elements."""
        return self.map(lambda tensor: tensor[batch].clone())

    def tensors(self) -> list[Tensor]:
        """List every tensor of the state."""
        tensors: list[Tensor] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                tensors.append(value)
            elif isinstance(value, State):
                tensors.extend(value.tensors())
        return tensors

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors of the state, and of what it holds outside torch."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors()) + self.outside_bytes

    @property
    def outside_bytes(self) -> int:
        """Bytes held outside torch, as by a library's index."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return sum(value.outside_bytes for value in values if isinstance(value, State))

    def _rebuild(self, map_tensor: Callable[[Tensor], Tensor], map_state: Callable[["State"], "State"]) -> Self:
        changed: dict[str, object] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = map_tensor(value)
            elif isinstance(value, State):
                changed[field.name] = map_state(value)
        return dataclasses.replace(self, **changed)


@dataclass
class ControllerState(State):
    """State of the LSTM controller, and the last reads, which are part of its next input."""

    hidden: Tensor  # [B, H]
    cell: Tensor  # [B, H]
    reads: Tensor  # [B, R, W]


M = TypeVar("M", bound=State)


@dataclass
class MANNState(State, Generic[M]):
    """State of a whole model; made by `model.initial_state`, passed to and returned by the model."""

    controller: ControllerState
    memory: M  # of the model's own type


def initial_rows(batch: int, slots: int, word_size: int, fill: Fill, seed: int, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """Make the rows of a memory, [B, N, W]: zeros (`empty`) or normal with variance 1 / W (`full`), the same for a seed on any device."""
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
