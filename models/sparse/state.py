"""SAM's memory as the state of one sequence: the shared rows, and what belongs to this state alone."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from mann_bench.models.sparse.memory import SparseMemory
from mann_bench.models.sparse.passes import StepwisePass
from mann_bench.models.sparse.reset import Reset
from mann_bench.models.sparse.shared import SharedMemory


@dataclass(kw_only=True)
class SAMMemory(SharedMemory[SparseMemory, StepwisePass]):
    """The shared memory [B, N, W], and what the heads last read from it."""

    index: Tensor  # [B, R, K] int64 rows last read, -1: none
    weights: Tensor  # [B, R, K] their weights

    @property
    def attached(self) -> bool:
        """Whether this state has the history of the pass that led to it: its weights have, until it is detached."""
        return self.weights.grad_fn is not None

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

    def detach(self) -> Self:
        """Cut the history; a memory that backward has rolled back is brought forward again to this state."""
        self.rows.history.replay_to(self.position)
        return dataclasses.replace(self, weights=self.weights.detach())
