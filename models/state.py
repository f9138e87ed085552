"""State of a model between time steps: typed, held by the caller, never hidden on a module."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, Self, TypeVar

import torch
from torch import Tensor

from mann_bench.kernels.native.huge_pages import on_huge_pages
from mann_bench.models.modes import outside_inference_mode

Fill = Literal["empty", "full"]
BLOCK = 2**16  # rows that are drawn or converted at a time, so that a large memory is never held twice


@dataclass
class State:
    """Base of all states: every tensor field is batch first, fields may be states themselves.

    A state can be detached (the cut of truncated backpropagation), moved, sliced by batch (`state[2:5]`), saved with `torch.save`, and
    loaded with `torch.load`, whose default refuses unknown classes: a subclass is declared safe when it is defined.

    Attributes:
        ledger_causes: names of fields and the cause under which the memory ledger counts them (`mann_bench.measure.ledger.CAUSES`);
            a field without one counts as the state that holds this one does, in the end as "state".
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **arguments: object) -> None:
        super().__init_subclass__(**arguments)
        torch.serialization.add_safe_globals([cls])

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply `function` to every tensor; returns a state of the same type."""
        return self._rebuild(function, lambda inner: inner.map(function))

    def detach(self) -> Self:
        """Return the same values without their autograd history."""
        return self._rebuild(Tensor.detach, lambda inner: inner.detach())

    def rollback(self) -> None:
        """Undo the passes whose backward has not run, without running it, as after a loss that is skipped: the states they began from
        can be used again. O(T) where a memory is changed in place; a model that makes a new memory every step has nothing to undo.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, State):
                value.rollback()

    @outside_inference_mode()
    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Copy to another device; `dtype` applies to floating tensors only, and not to rows that are stored in a type of their own."""
        return self._rebuild(
            lambda tensor: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None, copy=True),
            lambda inner: inner.to(device, dtype),
        )

    @outside_inference_mode()
    def __getitem__(self, batch: slice) -> Self:
        """Copy some of the batch elements."""
        return self.map(lambda tensor: tensor[batch].clone())

    def first(self, count: int) -> Self:
        """Narrow to the first elements of the batch, without a copy, as for a last smaller batch.

        A memory that is changed in place is shared: passes from the narrow state change it, and are undone when this state is used again,
        which is refused while a backward of them is due.

        Args:
            count: 1 to B.
        """
        batch = len(self.tensors()[0])
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= batch:
            raise ValueError(f"count: expected a whole number from 1 to {batch}, the batch of this state, got {count!r}")
        return self.narrowed(count)

    def narrowed(self, count: int) -> Self:
        """`first`, once its argument is checked."""
        return self._rebuild(lambda tensor: tensor[:count], lambda inner: inner.narrowed(count))

    def put(self, elements: Tensor, other: Self) -> Self:
        """Make a state whose `elements` int64 [n] are those of another state with n elements, in this order; differentiable in both."""

        def joined(own: object, others: object) -> object:
            if isinstance(own, Tensor) and isinstance(others, Tensor):
                return own.index_copy(0, elements, others)
            return own.put(elements, others) if isinstance(own, State) and isinstance(others, State) else _same(self, [own, others])

        names = [field.name for field in dataclasses.fields(self)]
        return dataclasses.replace(self, **{name: joined(getattr(self, name), getattr(other, name)) for name in names})

    @classmethod
    def join(cls, parts: "Sequence[Self]") -> Self:
        """Make one state of the elements of several, in order; differentiable in all."""
        changed: dict[str, object] = {}
        for field in dataclasses.fields(cls):
            values = [getattr(part, field.name) for part in parts]
            if isinstance(values[0], Tensor):
                changed[field.name] = torch.cat(values)
            elif isinstance(values[0], State):
                changed[field.name] = type(values[0]).join(values)
            else:
                changed[field.name] = _same(parts[0], values)
        return dataclasses.replace(parts[0], **changed)

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


def _same(state: State, values: list[object]) -> object:
    """What all elements of a batch share; ValueError if they differ, and so cannot be one batch by this class's means."""
    if any(value != values[0] for value in values[1:]):
        raise ValueError(
            f"{type(state).__name__}: expected elements of one batch to differ in tensors only, got {values}; override put and join"
        )
    return values[0]


@dataclass
class ControllerState(State):
    """State of the LSTM controller, and the last reads, which are part of its next input."""

    hidden: Tensor  # [B, H]
    cell: Tensor  # [B, H]
    reads: Tensor  # [B, R, W]


M = TypeVar("M", bound=State)
S = TypeVar("S", bound=State)


def kept(idle: Tensor, before: S, after: S) -> S:
    """The state after a step, with the tensors that it had before where `idle` bool [B]; states inside are those after."""
    changed = {}
    for field in dataclasses.fields(after):
        new = getattr(after, field.name)
        if isinstance(new, Tensor):
            changed[field.name] = torch.where(idle.view(-1, *[1] * (new.dim() - 1)), getattr(before, field.name), new)
    return dataclasses.replace(after, **changed)


@dataclass
class MANNState(State, Generic[M]):
    """State of a whole model; made by `model.initial_state`, passed to and returned by the model."""

    controller: ControllerState
    memory: M  # of the model's own type


def initial_rows(batch: int, slots: int, word_size: int, fill: Fill, seed: int, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """Make the rows of a memory, [B, N, W]: zeros (`empty`) or normal with variance 1 / W (`full`).

    On a GPU they are drawn there, as a million on the host take seconds: a seed gives other rows than on a CPU.
    """
    check_fill(fill)
    rows = on_huge_pages(torch.empty(batch, slots, word_size, device=device, dtype=dtype))
    if fill == "empty":
        return rows.zero_()
    drawn_on = rows.device if rows.device.type == "cuda" else torch.device("cpu")
    generator = torch.Generator(drawn_on).manual_seed(seed)
    for element in rows:
        for part in element.split(BLOCK):
            part.copy_(torch.randn(part.shape, generator=generator, dtype=torch.float32, device=drawn_on).mul_(word_size**-0.5))
    return rows


def check_fill(fill: Fill) -> None:
    """ValueError unless `fill` names a start of a memory."""
    if fill not in ("empty", "full"):
        raise ValueError(f"fill: expected 'empty' or 'full', got {fill!r}")
