"""The memory in a state of SDM."""

import dataclasses
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from mann_bench.models.slots.bank import Bank
from mann_bench.models.slots.passes import NativeBankPass, StepwiseBankPass
from mann_bench.models.sparse.shared import SharedMemory


@dataclass(kw_only=True)
class SDMMemory(SharedMemory[Bank, NativeBankPass | StepwiseBankPass]):
    """The shared bank [B, R, N, W], and where it stands for this state."""

    token: Tensor  # [B] zeros; its history is that of the passes before, and of a learned start

    @property
    def attached(self) -> bool:
        """Whether this state has the history of what led to it, until it is detached."""
        return self.token.grad_fn is not None

    def tensors(self) -> list[Tensor]:
        return [self.rows.memory, self.token]

    def detach(self) -> Self:
        """Cut the history; a bank that backward has rolled back is brought forward again to this state."""
        self.rows.history.replay_to(self.position)
        return dataclasses.replace(self, token=self.token.detach())
