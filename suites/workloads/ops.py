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
from typing import Any, ClassVar

import torch
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.kernels import ops, reference
from mann_bench.kernels.reference import WriteJournal
from mann_bench.measure.workload import Workload
from mann_bench.models import layers
from mann_bench.models.sparse import native
from mann_bench.suites.workloads import traffic
from mann_bench.suites.workloads.links import LINK_ENTRIES, LinkRead, LinkSteps, LinkUpdate
from mann_bench.suites.workloads.op import Op, TensorOp
from mann_bench.suites.workloads.random_data import RandomData, num_candidates


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

    def recall(self) -> float | None:
        """Of the K nearest rows before they were rounded to bfloat16, the share that the calls find; None for other types."""
        if self.case.dtype != "bfloat16":
            return None
        whole = RandomData(self.case, torch.float32).memory_with_norms().values()
        hits = 0
        for t, queries in enumerate(self.queries):
            nearest = self.module.topk_content(*whole, queries, self.case.reads, self.candidates)
            hits += int((nearest.unsqueeze(-1) == self.call(t).unsqueeze(-2)).any(-1).sum())
        return hits / self.queries[..., 0].numel() / self.case.reads


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

    def recall(self) -> float | None:
        """Of a search over rounded rows."""
        return self.op.recall() if isinstance(self.op, TopkContent) else None

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
