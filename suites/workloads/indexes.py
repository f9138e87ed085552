"""Operations of an index as workloads: `index:query`, `index:update`, `index:build`; `index:aged` is queries after many writes,
`index:crowded` queries of rows that crowd together, `index:crowded-aged` both.

The memory is N unit rows in random directions, the hard case: no row is near another. Of those that crowd together, as a trained model
writes them, about `CROWD` lie around each of N / `CROWD` random directions, at a distance of about 0.3. A query is a stored row plus
Gaussian noise of length 0.57 (0.1 a coordinate at W = 32). A call is what a step of SAM needs: R queries for K rows, or an update after
R (K + 1) written rows. A pass is T calls. Recall is the share of the true K nearest rows that a query returns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.data.case import Case
from mann_bench.kernels import ops
from mann_bench.kernels.index import Index, Reversible, make_index, ops_for, queries_near, recall_of
from mann_bench.kernels.reference import row_norms
from mann_bench.measure.workload import SMALL_STEPS, Workload

QUERIED = ("query", "aged", "crowded", "crowded-aged")  # operations that are queries
AGED = 4  # 1 / the share of rows that are written before the queries of an aged index
CROWD, CROWD_SPREAD = 1024, 0.3  # rows around a direction, length of the noise that parts them from it
SMALL_SLOTS = 1009  # a prime, above the number of rows that the hash index scans exactly


@dataclass
class IndexedRows:
    """A memory and its index."""

    memory: Tensor  # [B, N, W]
    norms: Tensor  # [B, N]
    num_candidates: int
    index: Index

    ledger_causes: ClassVar[Mapping[str, str]] = {"memory": "memory", "norms": "memory", "index": "index"}

    def write(self, rows: Tensor, content: Tensor) -> None:
        """Set rows int64 [B, n] to content [B, n, W], without an update of the index."""
        element = torch.arange(len(rows), device=rows.device)[:, None]
        self.memory[element, rows], self.norms[element, rows] = content, row_norms(content)

    def tensors(self) -> list[Tensor]:
        """Tensors of memory, norms and index."""
        return [self.memory, self.norms, *self.index.tensors()]

    @property
    def outside_bytes(self) -> int:
        """Bytes that a library's index allocates outside torch."""
        return self.index.outside_bytes(self)


class IndexWorkload(Workload):
    """One operation of an index over a full memory."""

    state: IndexedRows

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.operation = case.model.partition(":")[2]
        self.state = indexed_rows(case, self.dtype)
        self.generator = torch.Generator().manual_seed(case.seed + 1)
        self.queries: tuple[Tensor, ...] = ()
        self.rows = torch.empty(0, dtype=torch.int64, device="cpu")
        shape = (case.steps, case.batch, case.heads)
        if self.operation in QUERIED:
            self.queries = queries_near(self.state, self._random_rows(*shape), self.generator).unbind()
        if self.operation == "update":
            self.rows = self._random_rows(*shape[:2], case.heads * (case.reads + 1)).to(case.device)
        if self.operation in ("aged", "crowded-aged"):
            self._age()
        self.changes: list[Reversible | None] = []

    @classmethod
    def names(cls) -> list[str]:
        """Names of the operations."""
        return ["update", "build", *QUERIED]

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int] | None:
        """Bytes of rows and index."""
        state = index_rows(case, torch.empty(case.batch, case.slots, case.word_size, dtype=getattr(torch, case.dtype), device="meta"))
        return {"state": sum(t.numel() * t.element_size() for t in state.tensors()) + state.outside_bytes}

    @property
    def backend(self) -> dict[str, str]:
        """Native kernels of ours, their plain twins, or a library: what the index itself goes by when it is asked."""
        index = self.state.index
        kernels = "library" if not index.in_sequence else "native" if ops_for(index, self.state) is ops else "torch"
        return {"kernels": kernels, "index": self.case.index}

    @property
    def twin(self) -> tuple[Case, Case] | None:
        """The torch twin of native kernels; a library's index is judged by its recall instead."""
        if self.backend["kernels"] != "native":
            return None
        small = self.case.model_copy(update={"slots": min(self.case.slots, SMALL_SLOTS), "steps": SMALL_STEPS, "mode": "train"})
        return small, small.model_copy(update={"kernels": "torch"})

    def input_tensors(self) -> list[Tensor]:
        """Queries, or the rows to update."""
        return [*self.queries, self.rows]

    def forward(self, steps: int | None = None) -> tuple[Tensor, IndexedRows]:
        """Make T calls; y is the rows of the last query, int64 [B, R, K], or a placeholder."""
        state, case = self.state, self.case
        y = torch.zeros(1, dtype=torch.float32, device="cpu")
        for t in range(case.steps if steps is None else steps):
            if self.operation == "build":
                state.index.build(state)
            elif self.operation == "update":
                self.changes.append(state.index.update(state, self.rows[t]))
            else:
                y = state.index.query(state, self.queries[t], case.reads)
        return y, state

    def backward(self, y: Tensor) -> None:
        """Undo the updates."""
        for change in reversed(self.changes):
            if change is not None:
                change.toggle()
        self.changes = []

    def clear(self) -> None:
        """Write new content to the rows that the next pass updates."""
        self.changes = []
        if self.operation == "update":
            for rows in self.rows:
                self.state.write(rows, self._new_rows(*rows.shape))

    def observables(self) -> dict[str, Tensor]:
        """Rows of the last query, and the index after the updates and after their undo."""
        self.clear()
        y, state = self.forward()
        after = [tensor.double() for tensor in state.index.tensors()]
        self.backward(y)
        named = {f"index {i}": tensor for i, tensor in enumerate([*after, *(t.double() for t in state.index.tensors())])}
        return {"found": y.double()} | named

    def recall(self) -> float | None:
        """Of the K nearest rows to `QUERIES` queries."""
        if self.operation not in QUERIED:
            return None
        return recall_of(self.state.index, self.state, self.case.heads, self.case.reads, self.generator)

    def _random_rows(self, *shape: int) -> Tensor:
        """Numbers of rows, int64 on the CPU."""
        return torch.randint(self.case.slots, shape, generator=self.generator, device="cpu")

    def _new_rows(self, *shape: int) -> Tensor:
        """Unit rows as those of the memory, [*shape, W]."""
        return draw_rows(self.case, *shape, generator=self.generator).to(self.case.device, self.dtype)

    def _age(self) -> None:
        """Write N / `AGED` rows and update the index, as many at a time as a step of SAM writes."""
        case, count = self.case, self.case.heads * (self.case.reads + 1)
        for _ in range(case.slots // AGED // count):
            rows = self._random_rows(case.batch, count).to(case.device)
            self.state.write(rows, self._new_rows(case.batch, count))
            self.state.index.update(self.state, rows)


def indexed_rows(case: Case, dtype: torch.dtype) -> IndexedRows:
    """Make N unit rows and their index."""
    generator = torch.Generator().manual_seed(case.seed)
    memory = torch.empty(case.batch, case.slots, case.word_size, dtype=dtype, device=case.device)
    for element in memory:
        element.copy_(draw_rows(case, case.slots, generator=generator))
    return index_rows(case, memory)


def index_rows(case: Case, memory: Tensor) -> IndexedRows:
    """Build the case's index over a memory [B, N, W]."""
    index = make_index(case.index, memory.device.type)
    index.native = case.kernels != "torch"
    rows = IndexedRows(memory, row_norms(memory), case.slots, index)
    index.build(rows)
    return rows


def random_directions(*shape: int, generator: torch.Generator) -> Tensor:
    """Draw rows of length 1 in random directions, float32 on the CPU."""
    return functional.normalize(torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu"), dim=-1)


def draw_rows(case: Case, *shape: int, generator: torch.Generator) -> Tensor:
    """Draw the unit rows of a case [*shape, W], float32 on the CPU: in random directions, or crowded around a few that the case decides."""
    if not case.model.partition(":")[2].startswith("crowded"):
        return random_directions(*shape, case.word_size, generator=generator)
    crowds = random_directions(max(1, case.slots // CROWD), case.word_size, generator=torch.Generator().manual_seed(case.seed + 2))
    centres = crowds[torch.randint(len(crowds), shape, generator=generator, device="cpu")]
    noise = torch.randn(centres.shape, generator=generator, dtype=torch.float32, device="cpu")
    return functional.normalize(centres + noise * (CROWD_SPREAD * case.word_size**-0.5), dim=-1)
