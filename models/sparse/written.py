"""What a step wrote to a sparse memory, and how that is taken back."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mann_bench.kernels.reference import WriteJournal, gather_rows, rollback, row_norms
from mann_bench.kernels.reference.snapshot import Snapshot
from mann_bench.models.sparse.memory import SparseMemory


@dataclass
class Write:
    """One step's write, as far as backward needs it.

    Attributes:
        rows: int64 [B, E] overwritten. A row may be listed twice, then with the same old content.
        kept: their content before; once undone, what was written.
        norms: their norms then, [B, E]; None: those of what comes back.
        snapshot: how the content is kept, one of `snapshot.KINDS`.
        idle: bool [B], elements that had ended: they keep their rows to the bit. None: no element had.
        index: int64 [B, V, S], rows added to.
        erased: int64 [B, V], -1: none.
        survives: bool [B, V, S]: not erased by a later head of the same step.
    """

    rows: Tensor
    kept: Snapshot
    norms: Tensor | None
    snapshot: str
    idle: Tensor | None
    index: Tensor
    erased: Tensor
    survives: Tensor

    def exchange(self, memory: SparseMemory) -> None:
        """Undo the write, or make it again."""
        norms, content = self.norms, self.kept.restored(memory.memory.dtype)
        if norms is None:
            norms = row_norms(content.to(memory.norms.dtype))
            if self.idle is not None:
                content = torch.where(self.idle[:, None, None], gather_rows(memory.memory, self.rows), content)
                norms = torch.where(self.idle[:, None], memory.norms.gather(1, self.rows), norms)
        now = rollback(memory.memory, memory.norms, WriteJournal(self.rows, content, norms))
        self.kept, self.norms = Snapshot.of(now.content, self.snapshot), None if self.norms is None else now.norms
