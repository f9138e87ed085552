"""The interface of an index over the rows of a memory: find rows near a query, update after writes, undo the update."""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from mann_bench.kernels import ops, reference
from mann_bench.kernels.native import call


class Rows(Protocol):
    """The memory that an index searches: rows 0..num_candidates-1, to which further rows are added in the order of their numbers.

    An element of the batch may have fewer (`candidates_of`), where sequences ended early or a single element was reset.
    """

    memory: Tensor  # [B, N, W]
    norms: Tensor  # [B, N] sqrt(|row|^2 + eps), in the dtype of the model
    num_candidates: int  # the most of any element


class Reversible(Protocol):
    """A change in place that can be undone and redone."""

    def toggle(self) -> None:
        """Undo the change if it stands, else redo it."""


class Unavailable(RuntimeError):
    """An index cannot run here; the message says what to install."""


class Index(ABC):
    """Base of all indexes; an index serves one memory.

    A query may return fewer than K rows, or a row twice: the caller drops repeats. An index of your own is a subclass, used by its name as
    `package.module:Class`.
    """

    in_sequence: ClassVar[bool] = False  # whether the native sequence kernel can search and update it (`for_sequence`)
    native = True  # whether it may use our native kernels
    ledger_causes: ClassVar[Mapping[str, str]] = {}  # its tensors have the cause of the field that holds it

    def __init_subclass__(cls, **arguments: object) -> None:
        super().__init_subclass__(**arguments)
        torch.serialization.add_safe_globals([cls])  # `torch.load` accepts a saved state with its index

    @classmethod
    def why_not(cls, device: str = "cpu") -> str | None:
        """Return why this index cannot run here for rows on a device, and what to install; or None."""
        return None

    @abstractmethod
    def build(self, rows: Rows) -> None:
        """Index the candidates; whatever was indexed before is dropped."""

    @abstractmethod
    def query(self, rows: Rows, queries: Tensor, reads: int) -> Tensor:
        """Find the rows of largest cosine to each of queries [B, R, W], best first: int64 [B, R, K], -1 where there are fewer."""

    @abstractmethod
    def update(self, rows: Rows, written: Tensor) -> Reversible | None:
        """Update after a write to rows int64 [B, n] (-1: none, repeats allowed).

        Returns:
            What undoes the update when the old rows are restored; None if there is nothing to undo.
        """

    def forget(self, rows: Rows, elements: list[int], before: list[int]) -> Reversible | None:
        """Go on without the rows of some elements, which have been reset to an empty memory.

        By default all is indexed anew, which takes as long as `build`.

        Args:
            before: candidates of each of the elements before the reset.

        Returns:
            What undoes it when the rows are restored, and makes it again; None if there is nothing to undo.
        """
        return Rebuild(self, rows)

    def tensors(self) -> list[Tensor]:
        """List its tensors."""
        return []

    def outside_bytes(self, rows: Rows) -> int:
        """Predict the bytes it holds outside torch, from the sizes."""
        return 0

    def mapped(self, function: Callable[[Tensor], Tensor], rows: Rows) -> Self:
        """Make an index of the same kind over `rows`, a copy of its memory made by applying `function` to every tensor."""
        other = type(self)()
        other.native = self.native
        other.build(rows)
        return other

    def for_sequence(self) -> tuple[dict[str, int], dict[str, Tensor]]:
        """Return the sizes and buffers that the native sequence kernel needs, by the names of `csrc/arguments.h`."""
        raise NotImplementedError(f"{type(self).__name__} is used step by step only")


def ops_for(index: Index, rows: Rows) -> ModuleType:
    """`kernels.ops`, or their plain twins where there are no native kernels for this memory or the index is not to use them."""
    memory = rows.memory
    if not index.native:
        return reference
    reason = call.why_not(memory.device, rows.norms.dtype, memory.dtype, memory.shape[2]) if is_real(memory) else None
    return ops if reason is None else reference


def is_real(tensor: Tensor) -> bool:
    """Whether a tensor has data: False on torch's meta device and for fake tensors."""
    return not (tensor.is_meta or isinstance(tensor, FakeTensor))


class Reindex:
    """Undo or redo an update by indexing the same rows once more: they are already restored, or written again.

    It refers to the memory weakly: the memory holds what undoes its changes, and is to be freed when nobody uses it any more.
    """

    def __init__(self, index: Index, rows: Rows, written: Tensor) -> None:
        self.index, self.find_rows, self.written = index, weakref.ref(rows), written

    def toggle(self) -> None:
        if (rows := self.find_rows()) is not None:
            self.index.update(rows, self.written)


class Rebuild:
    """Undo or redo a change by indexing all rows anew: they are already restored, or reset again. It refers to them as `Reindex` does."""

    def __init__(self, index: Index, rows: Rows) -> None:
        self.index, self.find_rows = index, weakref.ref(rows)
        self.toggle()

    def toggle(self) -> None:
        if (rows := self.find_rows()) is not None:
            self.index.build(rows)


def exchange(target: Tensor, places: tuple[Tensor, ...], new: Tensor) -> Tensor:
    """Put new content at distinct places of a tensor and return the old."""
    old = target[places]
    target[places] = new
    return old


def candidates_of(rows: Rows, element: int) -> int:
    """How many rows of an element are candidates."""
    counts: Sequence[int] | None = getattr(rows, "counts", None)  # only where elements differ
    return rows.num_candidates if counts is None else counts[element]


def unit_rows(rows: Rows, element: int | Tensor, which: Tensor | slice) -> Tensor:
    """Divide rows of one batch element (or of several, as a tensor) by their norms, float32: their distances then order by cosine."""
    return (rows.memory[element, which].to(rows.norms.dtype) / rows.norms[element, which].unsqueeze(-1)).float()
