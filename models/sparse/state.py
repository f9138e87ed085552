"""SAM's memory as the state of one sequence: the shared rows, and what belongs to this state alone."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mann_bench.models.sparse.memory import SparseMemory
from mann_bench.models.sparse.passes import StepwisePass
from mann_bench.models.sparse.reset import Reset
from mann_bench.models.state import State


@dataclass(kw_only=True)
class SAMMemory(State):
    """The shared memory and what the heads last read from it."""

    rows: SparseMemory
    index: Tensor  # [B, R, K] int64 rows last read, -1: none
    weights: Tensor  # [B, R, K] their weights
    position: int  # of the shared memory, for this state
    current: StepwisePass | None = None  # the pass being run step by step

    ledger_causes: ClassVar[Mapping[str, str]] = {"current": "tape"}

    @property
    def memory(self) -> Tensor:
        """The rows themselves, [B, N, W]."""
        return self.rows.memory

    @property
    def attached(self) -> bool:
        """Whether this state has the history of the pass that led to it: its weights have, until it is detached."""
        return self.weights.grad_fn is not None

    @property
    def running(self) -> StepwisePass:
        """The pass being run."""
        assert self.current is not None
        return self.current

    def row_lists(self) -> dict[str, Tensor]:
        """Name the tensors that hold row numbers."""
        return {"index": self.index}

    def weight_lists(self) -> dict[str, Tensor]:
        """Name the tensors that hold the weights of those rows."""
        return {"weights": self.weights}

    def check_rows(self, slots: int) -> None:
        """ValueError for a row number that a memory of N rows does not have. On a GPU this would wait; native kernels then read no row."""
        for name, rows in self.row_lists().items():
            held = type(rows) is Tensor and rows.device.type == "cpu"  # not a fake tensor
            if held and (largest := max(rows.flatten().tolist())) >= slots:
                wanted = f"rows 0..{slots - 1} or -1 (none)"
                raise ValueError(f"state.memory.{name}: expected {wanted}, got {largest}; make one with initial_state")

    def _rebuild(self, map_tensor: Callable[[Tensor], Tensor], map_state: Callable[[State], State]) -> Self:
        self.rows.history.undo_abandoned(self.position)  # what is copied is the memory of this state
        return super()._rebuild(map_tensor, map_state)

    def __getstate__(self) -> dict[str, object]:
        self.rows.history.undo_abandoned(self.position)
        return self.__dict__

    def narrowed(self, count: int) -> Self:
        self.rows.history.go_back_to(self.position)  # what is shared is the memory of this state
        return super()._rebuild(lambda tensor: tensor[:count], lambda inner: inner.narrowed(count))

    def tables(self) -> list[tuple[Tensor, float]]:
        """What is changed in place besides the rows, [B, N, ...], each with what an unwritten row has there."""
        return []

    def reset(self, elements: list[int]) -> Self:
        """Make some elements empty, as `initial_state` does: nothing written, nothing read."""
        if not elements:
            return self
        made = Reset(self.rows, self.position, elements, self.tables())
        which = torch.tensor(elements, device=self.index.device)
        fresh = {name: rows.index_fill(0, which, -1) for name, rows in self.row_lists().items()}
        fresh |= {name: weights.index_fill(0, which, 0) for name, weights in self.weight_lists().items()}
        changed: dict[str, Any] = {**fresh, "position": made.end.position}
        return dataclasses.replace(self, **changed)

    def detach(self) -> "SAMMemory":
        """Cut the history; a memory that backward has rolled back is brought forward again to this state."""
        self.rows.history.replay_to(self.position)
        return dataclasses.replace(self, weights=self.weights.detach())
