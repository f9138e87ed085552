"""What the ops of `op:NAME` share: the calls of a pass, their results, and how they are undone."""

from types import ModuleType
from typing import Generic, TypeVar

import torch
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.suites.workloads.random_data import RandomData

ResultT = TypeVar("ResultT")


class Op(Generic[ResultT]):
    """T calls of one op; ResultT is what a call returns.

    Args:
        module: has the op, `kernels.ops` or `kernels.reference`.
        dtype: of the memory's rows.

    Attributes:
        state: tensors that calls search or change.
        parameters: tensors that receive gradients.
        results: what each call returned.
    """

    def __init__(self, case: Case, module: ModuleType, dtype: torch.dtype) -> None:
        self.case, self.module = case, module
        self.state: dict[str, Tensor] = {}
        self.parameters: dict[str, Tensor] = {}
        self.results: list[ResultT] = []
        self.prepare(RandomData(case, dtype))

    def prepare(self, data: RandomData) -> None:
        """Draw the state and the arguments of all calls."""
        raise NotImplementedError

    def call(self, t: int) -> ResultT:
        """Make the call of step t."""
        raise NotImplementedError

    def run(self, steps: int) -> None:
        """Make the calls of the first steps."""
        for t in range(steps):
            self.results.append(self.call(t))

    def undo(self) -> None:
        """Compute gradients, or roll the state back to where it was before the calls."""

    def observables(self) -> dict[str, Tensor]:
        """Results and state, in a form in which native op and twin must agree."""
        return self.state

    @property
    def last(self) -> Tensor:
        """A tensor of the last result."""
        raise NotImplementedError

    @staticmethod
    def numbers_per_slot(case: Case) -> int:
        """Numbers of the state per slot and batch element."""
        return case.word_size + 1


class TensorOp(Op[Tensor]):
    """An op whose call returns one tensor."""

    def observables(self) -> dict[str, Tensor]:
        return {"results": torch.stack([result.flatten() for result in self.results]), **self.state}

    @property
    def last(self) -> Tensor:
        return self.results[-1]
