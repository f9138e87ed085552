"""What an index does, as workloads: `index:query`, `index:update`, `index:build`, and `index:aged`, queries after many writes.

The memory is N unit rows in random directions, the hard case: no row is near another. A query is a stored row plus Gaussian noise of length
0.57 (0.1 a coordinate at W = 32). A call is what a step of SAM asks for: R queries of K rows, or following R (K + 1) written rows; a pass
is T calls. `recall` is the part of the true K nearest rows that is found.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from mann_bench.data.case import Case
from mann_bench.kernels import ops
from mann_bench.kernels.index import Index, make_index, ops_for, queries_near, recall_of
from mann_bench.kernels.reference import row_norms
from mann_bench.measure.workload import SMALL_STEPS, Workload

AGED = 4  # 1 / the part of the rows that has been written when queries are made in old age
SMALL_SLOTS = 1009  # more than the hash index scans exactly, and prime


@dataclass
class IndexedRows:
    """A memory and its index."""

    memory: Tensor  # [B, N, W]
    norms: Tensor  # [B, N]
    live: int
    index: Index

    def write(self, rows: Tensor, content: Tensor) -> None:
        """Change rows int64 [B, n] to [B, n, W]; the index is not told."""
        element = torch.arange(len(rows), device=rows.device)[:, None]
        self.memory[element, rows], self.norms[element, rows] = content, row_norms(content)

    def tensors(self) -> list[Tensor]:
        """Rows, norms, index."""
        return [self.memory, self.norms, *self.index.tensors()]

    @property
    def outside_bytes(self) -> int:
        """Of a library's index."""
        return self.index.outside_bytes(self)


class IndexWorkload(Workload):
    """One thing that an index does, over a full memory."""

    state: IndexedRows

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.does = case.model.partition(":")[2]
        self.state = indexed_rows(case, self.dtype)
        self.generator = torch.Generator().manual_seed(case.seed + 1)
        self.queries: tuple[Tensor, ...] = ()
        self.rows = torch.empty(0, dtype=torch.int64)
        shape = (case.steps, case.batch, case.heads)
        if self.does in ("query", "aged"):
            self.queries = queries_near(self.state, torch.randint(case.slots, shape, generator=self.generator), self.generator).unbind()
        if self.does == "update":
            self.rows = torch.randint(case.slots, (*shape[:2], case.heads * (case.reads + 1)), generator=self.generator).to(case.device)
        if self.does == "aged":
            self._grow_old()
        self.swaps: list[Any] = []

    @classmethod
    def names(cls) -> list[str]:
        """What is measured of an index."""
        return ["query", "update", "build", "aged"]

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int] | None:
        """Rows and index."""
        with FakeTensorMode():
            state = indexed_rows(case.model_copy(update={"device": "meta"}), getattr(torch, case.dtype))
            return {"state": sum(t.numel() * t.element_size() for t in state.tensors()) + state.outside_bytes}

    @property
    def backend(self) -> dict[str, str]:
        """Native kernels of ours, their plain twins, or a library: what the index itself goes by when it is asked."""
        index = self.state.index
        kernels = "library" if not index.in_sequence else "native" if ops_for(index, self.state) is ops else "torch"
        return {"kernels": kernels, "index": self.case.index}

    @property
    def twin(self) -> tuple[Case, Case] | None:
        """Native kernels must agree with their twins; what a library finds is judged by its recall."""
        if self.backend["kernels"] != "native":
            return None
        small = self.case.model_copy(update={"slots": min(self.case.slots, SMALL_SLOTS), "steps": SMALL_STEPS, "mode": "train"})
        return small, small.model_copy(update={"kernels": "torch"})

    def input_tensors(self) -> list[Tensor]:
        """Queries, or the rows to update."""
        return [*self.queries, self.rows]

    def forward(self, steps: int | None = None) -> tuple[Tensor, Any]:
        """T calls, or one build."""
        state, case = self.state, self.case
        found = torch.zeros(1)
        for t in range(case.steps if steps is None else steps):
            if self.does == "build":
                state.index.build(state)
            elif self.does == "update":
                self.swaps.append(state.index.update(state, self.rows[t]))
            else:
                found = state.index.query(state, self.queries[t], case.reads)
        return found, state

    def backward(self, y: Tensor) -> None:
        """Take the updates back."""
        for swap in reversed(self.swaps):
            if swap is not None:
                swap.swap()
        self.swaps = []

    def clear(self) -> None:
        """New content for the rows that the next pass is to follow."""
        self.swaps = []
        if self.does == "update":
            for rows in self.rows:
                self.state.write(rows, self._directions(*rows.shape))

    def observables(self) -> dict[str, Tensor]:
        """Rows found, and the index as it stands after updates, undone or not."""
        self.clear()
        y, state = self.forward()
        after = [tensor.double() for tensor in state.index.tensors()]
        self.backward(y)
        named = {f"index {i}": tensor for i, tensor in enumerate([*after, *(t.double() for t in state.index.tensors())])}
        return {"found": y.double()} | named

    def recall(self) -> float | None:
        """Of the K nearest rows to `JUDGED` queries."""
        if self.does not in ("query", "aged"):
            return None
        return recall_of(self.state.index, self.state, self.case.heads, self.case.reads, self.generator)

    def _directions(self, *shape: int) -> Tensor:
        rows = torch.randn(*shape, self.case.word_size, generator=self.generator)
        return functional.normalize(rows, dim=-1).to(self.case.device, self.dtype)

    def _grow_old(self) -> None:
        """Write N / `AGED` rows, as many at a time as a step of SAM does."""
        case, at_once = self.case, self.case.heads * (self.case.reads + 1)
        for _ in range(case.slots // AGED // at_once):
            rows = torch.randint(case.slots, (case.batch, at_once), generator=self.generator).to(case.device)
            self.state.write(rows, self._directions(case.batch, at_once))
            self.state.index.update(self.state, rows)


def indexed_rows(case: Case, dtype: torch.dtype) -> IndexedRows:
    """N unit rows in random directions, indexed."""
    index = make_index(case.index, case.device)
    index.native = case.kernels != "torch"
    generator = torch.Generator().manual_seed(case.seed)
    memory = torch.empty(case.batch, case.slots, case.word_size, dtype=dtype, device=case.device)
    for element in memory:
        element.copy_(functional.normalize(torch.randn(case.slots, case.word_size, generator=generator), dim=-1))
    rows = IndexedRows(memory, row_norms(memory), case.slots, index)
    index.build(rows)
    return rows
