"""Random inputs of the op workloads."""

import torch
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.kernels.reference import row_norms


class RandomData:
    """Random tensors for the calls of a case, drawn one after another from one generator.

    Attributes:
        real: dtype of all numbers but the memory's rows, float32 or float64.
        candidates: number of rows that hold content; they come first.
    """

    def __init__(self, case: Case, dtype: torch.dtype) -> None:
        self.case, self.dtype = case, dtype
        self.real = torch.float64 if dtype is torch.float64 else torch.float32
        self.candidates = num_candidates(case)
        self.generator = torch.Generator().manual_seed(case.seed)

    def uniform(self, *shape: int) -> Tensor:
        """U(0, 1), real."""
        return torch.rand(shape, generator=self.generator, dtype=torch.float32, device="cpu").to(self.case.device, self.real)

    def normal(self, *shape: int) -> Tensor:
        """N(0, 1), real."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float32, device="cpu").to(self.case.device, self.real)

    def rows(self, *shape: int) -> Tensor:
        """Numbers of rows that hold content, int64."""
        return torch.randint(0, self.candidates, shape, generator=self.generator, device="cpu").to(self.case.device)

    def distinct_rows(self, steps: int, count: int) -> Tensor:
        """`count` distinct rows for each step and batch element, -1 where there are too few: int64 [steps, B, count]."""
        rows = torch.full((steps, self.case.batch, count), -1, device="cpu")
        for t in range(steps):
            for b in range(self.case.batch):
                drawn = torch.randint(0, self.candidates, (4 * count,), generator=self.generator, device="cpu").unique()
                drawn = drawn[torch.randperm(len(drawn), generator=self.generator, device="cpu")][:count]
                rows[t, b, : len(drawn)] = drawn
        return rows.to(self.case.device)

    def memory(self) -> Tensor:
        """Memory [B, N, W] in the case's dtype: N(0, 1), zero after the candidates."""
        memory = self.normal(self.case.batch, self.case.slots, self.case.word_size).to(self.dtype)
        memory[:, self.candidates :] = 0
        return memory

    def memory_with_norms(self) -> dict[str, Tensor]:
        """Memory [B, N, W] and the norms of its rows, real [B, N]."""
        memory = self.memory()
        return {"memory": memory, "norms": row_norms(memory.to(self.real))}


def num_candidates(case: Case) -> int:
    """Rows that hold content: all of a full memory, or those that T steps of R heads write into an empty one."""
    return case.slots if case.fill == "full" else min(case.slots, case.steps * case.heads)
