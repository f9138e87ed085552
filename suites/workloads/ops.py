"""The single ops as workloads `op:NAME`: a pass is T calls on random data, native (`kernels.ops`) or by the twin (`kernels.reference`).

| op | one call | undone in mode `train` by |
|---|---|---|
| copy | all N rows copied: the bandwidth that the other ops are held against | |
| topk_content | the K most similar rows of R queries | |
| sparse_read | R weighted sums of K rows | the gradient of the weights |
| sparse_write | R heads erase one row each, then add to it and to K others | rollback |
| lru_ring | the least recently used row popped, K others touched | undo of the log |
| link_update | the effect of one write on both link matrices | swapping the changes back |
| link_read | forward and backward weights of R heads from K rows each | |
| link_steps | T updates and reads of the links in one call, as in the sequence kernels | |

In a full memory, rows are drawn from all N; in an empty one, from the T R rows that T steps would have written. What a call has to move:
`mann_bench.suites.workloads.traffic`.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.kernels import ops, reference
from mann_bench.kernels.index import Reversible
from mann_bench.kernels.reference import SparseLinks, WriteJournal
from mann_bench.measure.workload import Workload
from mann_bench.models import layers
from mann_bench.models.sparse import native
from mann_bench.suites.workloads import traffic
from mann_bench.suites.workloads.random_data import RandomData, num_candidates

LINK_ENTRIES = 8  # K_L of Rae et al. 2016, supplement D

SparseVectors = tuple[Tensor, Tensor]  # columns and values
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


class Copy(TensorOp):
    """Copy the memory by torch: the rate that all others can be compared with."""

    def prepare(self, data: RandomData) -> None:
        self.state = {"memory": data.memory(), "copy": data.memory()}

    def call(self, t: int) -> Tensor:
        return self.state["copy"].copy_(self.state["memory"])

    def observables(self) -> dict[str, Tensor]:
        return self.state

    @staticmethod
    def numbers_per_slot(case: Case) -> int:
        return 2 * case.word_size


class TopkContent(TensorOp):
    """Find the K rows most similar to each query. With index `exact` all N rows are scored, with `live` those that were written."""

    def prepare(self, data: RandomData) -> None:
        case = self.case
        self.state = data.memory_with_norms()
        self.candidates = data.candidates
        self.queries = data.normal(case.steps, case.batch, case.heads, case.word_size)

    def call(self, t: int) -> Tensor:
        case, state = self.case, self.state.values()
        rows: Tensor = self.module.topk_content(*state, self.queries[t], case.reads, self.candidates, scan_all=case.index == "exact")
        return rows


class SparseRead(TensorOp):
    """Sum K rows a head by their weights, forward and backward.

    Weights [T, B, R, K] are of the same K rows a head, drawn apart for each step.
    """

    def prepare(self, data: RandomData) -> None:
        case, shape = self.case, (self.case.steps, self.case.batch, self.case.heads)
        self.state = {"memory": data.memory()}
        self.rows = data.rows(*shape, case.reads)
        self.weights = data.uniform(*shape, case.reads).unbind()
        if case.mode == "train":
            self.parameters = {f"weights {t}": weights.clone().requires_grad_() for t, weights in enumerate(self.weights)}
            self.weights = tuple(self.parameters.values())
        self.grad = data.uniform(*shape[1:], case.word_size)

    def call(self, t: int) -> Tensor:
        read: Tensor = self.module.sparse_read(self.state["memory"], self.rows[t], self.weights[t])
        return read

    def undo(self) -> None:
        for read in self.results:
            read.backward(self.grad)

    def observables(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in super().observables().items()}


class SparseWrite(Op[WriteJournal]):
    """Erase a row a head and add to others, in place.

    The erased row [T, B, R] is the last of the K + 1 rows [T, B, R, K + 1] that a head adds to.
    """

    def prepare(self, data: RandomData) -> None:
        case, shape = self.case, (self.case.steps, self.case.batch, self.case.heads)
        self.state = data.memory_with_norms()
        self.erased = data.rows(*shape)
        self.rows = torch.cat([data.rows(*shape, case.reads), self.erased.unsqueeze(-1)], dim=-1)
        self.weights, self.values = data.uniform(*shape, case.reads + 1), data.normal(*shape, case.word_size)

    def call(self, t: int) -> WriteJournal:
        arguments = (self.rows[t], self.weights[t], self.values[t], self.erased[t])
        journal: WriteJournal = self.module.sparse_write(*self.state.values(), *arguments)
        return journal

    def undo(self) -> None:
        for journal in reversed(self.results):
            self.module.rollback(*self.state.values(), journal)

    @property
    def last(self) -> Tensor:
        return self.results[-1].content


class Ring(TensorOp):
    """Find the rows not used for longest, and mark others as used.

    The state is what the ring holds; with mode `train` it logs its changes.
    """

    def prepare(self, data: RandomData) -> None:
        case = self.case
        self.ring = self.module.LruRing(case.batch, case.slots, case.device)
        self.ring.reserve(2 * case.slots)  # the length that it reaches before it is compacted
        self.state = {"last": self.ring.last, "queue": self.ring.queue}
        self.touched = data.rows(case.steps, case.batch, case.reads)
        self.mask = torch.ones_like(self.touched[0], dtype=torch.bool)

    def call(self, t: int) -> Tensor:
        row: Tensor = self.ring.pop()
        self.ring.touch(self.touched[t], self.mask)
        return row

    def run(self, steps: int) -> None:
        self.mark = self.ring.begin(log=self.case.mode == "train")
        super().run(steps)
        self.log = self.ring.end_log()

    def undo(self) -> None:
        self.ring.undo(self.mark, self.log)

    def observables(self) -> dict[str, Tensor]:
        return {"results": torch.stack(self.results), "last": self.ring.last}

    @staticmethod
    def numbers_per_slot(case: Case) -> int:
        return 5


class Links(Op[ResultT]):
    """Base of the ops on SDNC's two link matrices, K_L entries a row. Step t writes `written[t + 1]` after `written[t]`."""

    def prepare(self, data: RandomData) -> None:
        case, steps, batch = self.case, self.case.steps, self.case.batch
        self.links = SparseLinks.empty(batch, case.slots, LINK_ENTRIES, data.real, case.device)
        self.state = vars(self.links)
        self.written = data.distinct_rows(steps + 1, LINK_ENTRIES)  # [T + 1, B, K_L], as the weights
        self.write_weights = data.uniform(steps + 1, batch, LINK_ENTRIES) / LINK_ENTRIES
        self.rows = data.rows(steps, batch, case.heads, case.reads)
        self.read_weights = data.uniform(steps, batch, case.heads, case.reads)
        for t in range(steps):  # fill the matrices with what these steps write, as late in a long episode
            reference.link_update(self.links, self.write(t), self.write(t + 1))

    def write(self, t: int) -> tuple[Tensor, Tensor]:
        """Rows and weights [B, K_L] of a write."""
        return self.written[t], self.write_weights[t]

    def observables(self) -> dict[str, Tensor]:
        """Both matrices as dense ones: the entries of a sparse row may be in any order."""
        return {side: self.dense(self.state[f"{side}_columns"], self.state[f"{side}_values"]) for side in ("after", "before")}

    def dense(self, columns: Tensor, values: Tensor) -> Tensor:
        """Sparse vectors [..., S] as dense ones [..., N + 1]; entries without a column (-1) go to the last place."""
        vectors = values.new_zeros(*values.shape[:-1], self.case.slots + 1)
        return vectors.scatter_add_(-1, torch.where(columns < 0, self.case.slots, columns).long(), values)

    @staticmethod
    def numbers_per_slot(case: Case) -> int:
        return 4 * LINK_ENTRIES  # column and value in each matrix


class LinkUpdate(Links[Reversible]):
    """Write to both of SDNC's link matrices, one write after another."""

    def call(self, t: int) -> Reversible:
        change: Reversible = self.module.link_update(self.links, self.write(t), self.write(t + 1))
        return change

    def undo(self) -> None:
        for change in reversed(self.results):
            change.toggle()

    @property
    def last(self) -> Tensor:
        return self.links.after_values


class LinkRead(Links[tuple[SparseVectors, SparseVectors]]):
    """Read SDNC's links of K rows [B, R, K] with their weights, both ways."""

    def call(self, t: int) -> tuple[SparseVectors, SparseVectors]:
        forward, backward = self.module.link_read(self.links, self.rows[t], self.read_weights[t])
        return forward, backward

    @property
    def last(self) -> Tensor:
        return self.results[-1][0][0]

    def observables(self) -> dict[str, Tensor]:
        return {f"{t} {side}": self.dense(*pair) for t, result in enumerate(self.results) for side, pair in zip("fb", result, strict=True)}


class LinkSteps(Links[tuple[SparseVectors, SparseVectors, SparseVectors]]):
    """Do all that a step of SDNC does with its links. Each step writes to 1 + R K rows, as SDNC does."""

    def prepare(self, data: RandomData) -> None:
        super().prepare(data)
        case, support = self.case, 1 + self.case.heads * self.case.reads
        self.supports = data.distinct_rows(case.steps, support)  # [T, B, 1 + R K], as the weights
        self.support_weights = data.uniform(case.steps, case.batch, support) / support
        nothing = (case.batch, LINK_ENTRIES)
        self.start = torch.full(nothing, -1, device=case.device), torch.zeros(nothing, device=case.device, dtype=data.real)

    def run(self, steps: int) -> None:
        arguments = (self.supports[:steps], self.support_weights[:steps], self.rows[:steps], self.read_weights[:steps])
        self.results.append(self.module.link_steps(self.links, self.start, *arguments))

    @property
    def last(self) -> Tensor:
        return self.results[-1][0][0]

    def observables(self) -> dict[str, Tensor]:
        sides = zip(("forward", "backward", "precedence"), self.results[-1], strict=True)
        return {**super().observables(), **{side: self.dense(*pair) for side, pair in sides}}


OPS: dict[str, type[Op[Any]]] = {
    "copy": Copy,
    "topk_content": TopkContent,
    "sparse_read": SparseRead,
    "sparse_write": SparseWrite,
    "lru_ring": Ring,
    "link_update": LinkUpdate,
    "link_read": LinkRead,
    "link_steps": LinkSteps,
}


class OpWorkload(Workload):
    """`op:NAME`, native where the case's `kernels` ask for it (`native` or `auto`) and it can run."""

    ledger_causes: ClassVar[Mapping[str, str]] = {"memory": "memory", "norms": "memory"}

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        name = case.model.partition(":")[2]
        real = torch.empty(0, dtype=torch.float64 if case.dtype == "float64" else torch.float32, device=case.device)
        self.why_torch = None if name == "copy" or case.kernels == "torch" else native.why_not(real, case.word_size)
        self.kernels = "torch" if name == "copy" else layers.choose(case.kernels, self.why_torch)
        self.op = OPS[name](case, ops if self.kernels == "native" else reference, self.dtype)
        self.state = self.op.state

    @classmethod
    def names(cls) -> list[str]:
        """Names of the ops."""
        return list(OPS)

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int]:
        """Bytes of the state."""
        op = OPS[case.model.partition(":")[2]]
        return {"state": case.batch * case.slots * op.numbers_per_slot(case) * getattr(torch, case.dtype).itemsize}

    @classmethod
    def moved_bytes(cls, case: Case) -> int:
        """Bytes that one call must move (`traffic`)."""
        sizes = traffic.Sizes(
            batch=case.batch,
            slots=case.slots,
            rows=num_candidates(case) if case.index == "live" else case.slots,
            width=case.word_size,
            heads=case.heads,
            reads=case.reads,
            entries=LINK_ENTRIES,
            item=getattr(torch, case.dtype).itemsize,
            train=case.mode == "train",
        )
        return traffic.TRAFFIC[case.model.partition(":")[2]](sizes)

    @property
    def backend(self) -> dict[str, str]:
        """Kernels that run, and the case's index, which only a search uses."""
        return {"kernels": self.kernels, "index": self.case.index}

    @property
    def fallback(self) -> str | None:
        """Why native kernels do not run, or None."""
        return self.why_torch

    def parameters(self) -> dict[str, Tensor]:
        """Weights of `sparse_read`, which receive gradients."""
        return self.op.parameters

    def forward(self, steps: int | None = None) -> tuple[Tensor, object]:
        """Make the calls; y is a tensor of the last result."""
        self.op.results = []
        with nullcontext() if self.op.parameters else torch.no_grad():
            self.op.run(self.case.steps if steps is None else steps)
        return self.op.last, self.state

    def backward(self, y: Tensor) -> None:
        """Compute the gradients of all calls or undo them."""
        self.op.undo()

    def drop_results(self) -> None:
        """Free what the calls returned."""
        self.op.results = []

    def clear(self) -> None:
        """Free results and gradients."""
        self.drop_results()
        for parameter in self.op.parameters.values():
            parameter.grad = None

    def observables(self) -> dict[str, Tensor]:
        """Results, state after the calls and after their undo, and gradients."""
        self.forward()
        after = {name: value.clone() for name, value in self.op.observables().items()}
        self.op.undo()
        undone = {f"{name}, undone": value.clone() for name, value in self.op.observables().items() if name != "results"}
        return after | undone | {name: value.grad for name, value in self.op.parameters.items() if value.grad is not None}
