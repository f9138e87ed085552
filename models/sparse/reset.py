"""Single batch elements made empty again, as `initial_state` made them: O(rows written since then), whatever the number of slots.

A reset is a pass of its own: where a backward is due, or the memory is the first elements of a larger one, it is recorded, taken back and
made again with the passes around it.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from mann_bench.kernels.index import exchange
from mann_bench.kernels.reference import row_norms
from mann_bench.models.sparse.history import M, Mark, RecordedPass
from mann_bench.models.sparse.memory import SparseMemory

BEGAN_FULL = (
    "a memory that began with random rows (fill='full') keeps no copy of them to reset an element to: make a new state with initial_state, "
    "or begin with fill='empty'"
)


class ElementsReset(RecordedPass[M]):
    """Some batch elements of a memory made new: a pass that has no backward, and through which no gradient of theirs goes."""

    elements: list[int]


class Reset(ElementsReset[SparseMemory]):
    """Makes elements of a memory empty.

    Args:
        position: where the state stands that has them reset.
        elements: their numbers, distinct.
        tables: further tensors [B, N, ...] that are changed with the rows, each with what an unwritten row has there.

    Raises:
        ValueError: the memory began full.
        RuntimeError: the memory does not stand at `position` (`History.begin`).
    """

    start: Mark
    end: Mark

    def __init__(self, memory: SparseMemory, position: int, elements: list[int], tables: Iterable[tuple[Tensor, float]] = ()) -> None:
        if memory.began_full:
            raise ValueError(BEGAN_FULL)
        super().__init__(memory)
        memory.history.begin(position)
        self.elements, self.stands = elements, True
        self.start = self.end = memory.mark()
        counts, device = memory.each_count(), memory.memory.device
        written = [counts[element] for element in elements]
        element, row = places(elements, written, device)
        norm = row_norms(memory.norms.new_zeros(1, memory.memory.shape[2]))
        contents = [(memory.memory, 0.0), (memory.norms, norm.item()), *tables]
        changes: list[tuple[Tensor, tuple[Tensor, ...], Tensor]] = [
            (table, (element, row), torch.full_like(table[element, row], value)) for table, value in contents
        ]
        changes += memory.ring.first_places(elements, written)
        self.saved = [(table, at, exchange(table, at, new)) for table, at, new in changes]
        head = memory.ring.head.clone()  # marks refer to the old tensor
        head[elements] = 0
        memory.ring.head = head
        memory.set_counts([0 if number in elements else count for number, count in enumerate(counts)])
        self.of_index = memory.index.forget(memory, elements, written)
        memory.history.end(self if memory.history.standing or memory.narrow else None)
        self.end = memory.mark()

    def toggle(self) -> None:
        """Exchange what was overwritten with what is there now."""
        self.saved = [(table, at, exchange(table, at, new)) for table, at, new in self.saved]
        mark = self.start if self.stands else self.end
        self.memory.num_candidates, self.memory.counts = mark.num_candidates, mark.counts
        self.memory.ring.head = mark.ring.head
        self.stands = not self.stands
        if self.of_index is not None:
            self.of_index.toggle()

    def rollback(self) -> None:
        """Take the reset back, bit for bit; it is the last that stands."""
        self.toggle()
        self.memory.history.left(self)

    def replay(self) -> None:
        """Make it again."""
        self.toggle()


def places(elements: list[int], counts: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """List the rows 0..count-1 of some elements: element and row int64 [n]."""
    element = torch.tensor(elements, device=device).repeat_interleave(torch.tensor(counts, device=device))
    return element, torch.cat([torch.arange(count, device=device) for count in counts])
