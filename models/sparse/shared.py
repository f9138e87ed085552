"""The memory in a state, as the states of a sequence share it: rows that are changed in place, and where they stand for one state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, Self, TypeVar

from torch import Tensor

from mann_bench.models.sparse.history import History
from mann_bench.models.state import State


class SharedRows(Protocol):
    """Rows changed in place by the passes of a history: `SparseMemory`, `Bank`."""

    memory: Tensor
    history: History


RowsT = TypeVar("RowsT", bound=SharedRows)
PassT = TypeVar("PassT")


@dataclass(kw_only=True)
class SharedMemory(State, Generic[RowsT, PassT]):
    """Base of the memories of states. PassT: a pass over the rows that is run step by step."""

    rows: RowsT
    position: int  # of the shared rows, for this state
    current: PassT | None = None  # the pass being run

    ledger_causes: ClassVar[Mapping[str, str]] = {"current": "tape"}

    @property
    def memory(self) -> Tensor:
        """The rows themselves."""
        return self.rows.memory

    @property
    def running(self) -> PassT:
        """The pass being run."""
        assert self.current is not None
        return self.current

    def _rebuild(self, map_tensor: Callable[[Tensor], Tensor], map_state: Callable[[State], State]) -> Self:
        self.rows.history.undo_abandoned(self.position)  # what is copied are the rows of this state
        return super()._rebuild(map_tensor, map_state)

    def __getstate__(self) -> dict[str, object]:
        self.rows.history.undo_abandoned(self.position)
        return self.__dict__

    def narrowed(self, count: int) -> Self:
        self.rows.history.go_back_to(self.position)  # what is shared are the rows of this state
        return super()._rebuild(lambda tensor: tensor[:count], lambda inner: inner.narrowed(count))
