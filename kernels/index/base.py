"""What an index over the rows of a memory is: it finds rows near a query, follows the rows as they change, and can take that back."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import ClassVar, Protocol, Self

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from mann_bench.kernels import ops, reference
from mann_bench.kernels.native import build, driver


class Rows(Protocol):
    """The memory that an index is of. Rows 0..num_candidates-1 are candidates; rows become live in the order of their numbers."""

    memory: Tensor  # [B, N, W]
    norms: Tensor  # [B, N] sqrt(|row|^2 + eps), in the number type of the model
    num_candidates: int


class Reversible(Protocol):
    """A change in place that can be undone and redone."""

    def toggle(self) -> None:
        """Undo the change if it stands, else redo it."""


class Unavailable(RuntimeError):
    """An index cannot be had here; the message says what to install."""


class Index(ABC):
    """Base of all indexes. One serves one memory; it may find fewer than K rows, or one twice: whoever asks keeps each row once.

    An index of your own subclasses this, and is used by its name as `package.module:Class`.
    """

    in_sequence: ClassVar[bool] = False  # whether native sequences work on it themselves: `for_sequence` says how
    native = True  # whether it may use native kernels of ours
    ledger_causes: ClassVar[Mapping[str, str]] = {}  # all it holds counts as the memory declares that holds it: index

    @classmethod
    def why_not(cls, device: str = "cpu") -> str | None:
        """Why this index cannot be had here, for rows on a device, and what to install; or None."""
        return None

    @abstractmethod
    def build(self, rows: Rows) -> None:
        """Index the live rows, forgetting whatever was indexed before."""

    @abstractmethod
    def query(self, rows: Rows, queries: Tensor, reads: int) -> Tensor:
        """The rows of largest cosine to each of queries [B, R, W], best first: int64 [B, R, K], -1 where there are fewer."""

    @abstractmethod
    def update(self, rows: Rows, written: Tensor) -> Reversible | None:
        """Follow rows int64 [B, n] (-1: none, repeats allowed) that have been written; what undoes that once the rows are back, or None."""

    def tensors(self) -> list[Tensor]:
        """The tensors it holds."""
        return []

    def outside_bytes(self, rows: Rows) -> int:
        """Bytes it holds outside of torch, predicted from the sizes."""
        return 0

    def mapped(self, function: Callable[[Tensor], Tensor], rows: Rows) -> Self:
        """An index of the same kind over `rows`, a copy of its memory made by applying `function` to every tensor."""
        other = type(self)()
        other.build(rows)
        return other

    def for_sequence(self) -> tuple[dict[str, int], dict[str, Tensor]]:
        """Sizes and buffers, by the names of csrc/arguments.h, with which a native sequence queries, updates and undoes it in place."""
        raise NotImplementedError(f"{type(self).__name__} is used step by step only")


def ops_for(index: Index, rows: Rows) -> ModuleType:
    """`kernels.ops`, or their plain twins where there are no native kernels for this memory or the index is not to use them."""
    real = str(rows.norms.dtype).removeprefix("torch.")
    return ops if index.native and (not is_real(rows.memory) or why_not_native(rows, real) is None) else reference


def why_not_native(rows: Rows, real: str) -> str | None:
    """Why there are no native kernels for this memory and a model that computes in `real`, or None."""
    device, store = rows.memory.device.type, str(rows.memory.dtype).removeprefix("torch.")
    if device == "cpu":
        return build.why_not(real)
    if device == "cuda":
        return driver.why_not(real, store, rows.memory.shape[2])
    return f"there are no native kernels for {device}"


def is_real(tensor: Tensor) -> bool:
    """Whether a tensor has numbers, which one on torch's meta device or a fake one has not."""
    return not (tensor.is_meta or isinstance(tensor, FakeTensor))


class Reindex:
    """Undo or redo an update by indexing the same rows once more: they are already restored, or written again."""

    def __init__(self, index: Index, rows: Rows, written: Tensor) -> None:
        self.index, self.rows, self.written = index, rows, written

    def toggle(self) -> None:
        self.index.update(self.rows, self.written)


def unit_rows(rows: Rows, element: int | Tensor, which: Tensor | slice) -> Tensor:
    """Rows of one element (or several, as a tensor) divided by their norms, float32: what the libraries index, so that their distance
    orders by cosine.
    """
    return (rows.memory[element, which].to(rows.norms.dtype) / rows.norms[element, which].unsqueeze(-1)).float()
