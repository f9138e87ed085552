"""The memory in a state of SDM."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from mann_bench.models.slots.bank import Bank
from mann_bench.models.slots.passes import NativeBankPass, StepwiseBankPass
from mann_bench.models.state import State


@dataclass(kw_only=True)
class SDMMemory(State):
    """The shared bank, and where it stands for this state."""

    rows: Bank
    token: Tensor  # [B] zeros; its history is that of the passes before, and of a learned start
    position: int  # of the bank
    current: NativeBankPass | StepwiseBankPass | None = None  # the pass being run

    ledger_causes: ClassVar[Mapping[str, str]] = {"current": "tape"}

    @property
    def memory(self) -> Tensor:
        """The rows themselves, [B, R, N, W]."""
        return self.rows.memory

    @property
    def attached(self) -> bool:
        """Whether this state has the history of what led to it, until it is detached."""
        return self.token.grad_fn is not None

    @property
    def running(self) -> NativeBankPass | StepwiseBankPass:
        """The pass being run."""
        assert self.current is not None
        return self.current

    def tensors(self) -> list[Tensor]:
        return [self.rows.memory, self.token]

    def _rebuild(self, map_tensor: Callable[[Tensor], Tensor], map_state: Callable[[State], State]) -> Self:
        self.rows.history.undo_abandoned(self.position)  # what is copied is the bank of this state
        return super()._rebuild(map_tensor, map_state)

    def __getstate__(self) -> dict[str, object]:
        self.rows.history.undo_abandoned(self.position)
        return self.__dict__

    def narrowed(self, count: int) -> Self:
        self.rows.history.go_back_to(self.position)  # what is shared is the bank of this state
        return super()._rebuild(lambda tensor: tensor[:count], lambda inner: inner.narrowed(count))

    def detach(self) -> Self:
        """Cut the history; a bank that backward has rolled back is brought forward again to this state."""
        self.rows.history.replay_to(self.position)
        return dataclasses.replace(self, token=self.token.detach())
