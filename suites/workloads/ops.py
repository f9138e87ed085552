"""The single ops as workloads `op:NAME`: a pass is T calls on random data, native (`kernels.ops`) or the plain twin (`kernels.reference`).

In mode `train` what was done is taken back after the T calls: gradients for `sparse_read`, undo for what changes in place. The rows that
are read and written are any of the N live ones in a full memory, the T R rows that T steps would have written in an empty one. `op:copy`
copies the memory: the bytes a second that the others are held against (`mann_bench.suites.workloads.traffic`).
"""

from contextlib import nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.kernels import ops, reference
from mann_bench.kernels.reference import SparseLinks, row_norms
from mann_bench.measure.workload import Workload
from mann_bench.models.sparse import native
from mann_bench.suites.workloads import traffic

LINK_ENTRIES = 8  # K_L of Rae et al. 2016, supplement D


class Op:
    """T calls of one op on data of a case; `module` has the op, `results` what the calls returned, `state` what they change or search."""

    def __init__(self, case: Case, module: ModuleType, dtype: torch.dtype) -> None:
        self.case, self.module, self.dtype = case, module, dtype
        self.generator = torch.Generator().manual_seed(case.seed)
        self.live = live_rows(case)
        self.state: dict[str, Tensor] = {}
        self.parameters: dict[str, Tensor] = {}
        self.results: list[Any] = []

    def call(self, t: int) -> Any:
        """The call of step t."""
        raise NotImplementedError

    def run(self, steps: int) -> None:
        """The calls of the first steps."""
        for t in range(steps):
            self.results.append(self.call(t))

    def undo(self) -> None:
        """Gradients or undo."""

    def compared(self) -> dict[str, Tensor]:
        """Results and state in a form in which twins must agree."""
        return {"results": torch.stack([result.flatten() for result in self.results]), **self.state}

    @property
    def last(self) -> Tensor:
        """A tensor of the last result."""
        result = self.results[-1]
        while not isinstance(result, Tensor):
            result = result[0]
        return result

    def random(self, *shape: int, normal: bool = False) -> Tensor:
        """Numbers in the ops' type."""
        draw = torch.randn if normal else torch.rand
        real = torch.float64 if self.dtype is torch.float64 else torch.float32
        return draw(*shape, generator=self.generator).to(self.case.device, real)

    def rows(self, *shape: int) -> Tensor:
        """Row numbers below the live count."""
        return torch.randint(0, self.live, shape, generator=self.generator).to(self.case.device)

    def distinct_rows(self, steps: int, count: int) -> Tensor:
        """[T, B, count] distinct rows, -1 where there are too few."""
        found = torch.full((steps, self.case.batch, count), -1)
        for t in range(steps):
            for b in range(self.case.batch):
                some = torch.randint(0, self.live, (4 * count,), generator=self.generator).unique()
                some = some[torch.randperm(len(some), generator=self.generator)][:count]
                found[t, b, : len(some)] = some
        return found.to(self.case.device)

    def memory(self) -> Tensor:
        """[B, N, W]: live rows hold content, the others are zero."""
        memory = self.random(self.case.batch, self.case.slots, self.case.word_size, normal=True).to(self.dtype)
        memory[:, self.live :] = 0
        return memory


class Copy(Op):
    """The whole memory, by torch."""

    def __init__(self, case: Case, module: ModuleType, dtype: torch.dtype) -> None:
        super().__init__(case, reference, dtype)
        self.state = {"memory": self.memory(), "copy": self.memory()}

    def call(self, t: int) -> Tensor:
        return self.state["copy"].copy_(self.state["memory"])

    def compared(self) -> dict[str, Tensor]:
        return self.state


class TopkContent(Op):
    """R queries; `index` exact scores all rows, live those written."""

    def __init__(self, case: Case, module: ModuleType, dtype: torch.dtype) -> None:
        super().__init__(case, module, dtype)
        memory = self.memory()
        self.state = {"memory": memory, "norms": row_norms(memory.to(self.random(0).dtype))}
        self.queries = self.random(case.steps, case.batch, case.heads, case.word_size, normal=True)

    def call(self, t: int) -> Tensor:
        case, state = self.case, self.state
        scan_all = case.index == "exact"
        found: Tensor = self.module.topk_content(state["memory"], state["norms"], self.queries[t], case.reads, self.live, scan_all=scan_all)
        return found


class SparseRead(Op):
    """R heads of K rows; the gradient is that of the weights."""

    def __init__(self, case: Case, module: ModuleType, dtype: torch.dtype) -> None:
        super().__init__(case, module, dtype)
        self.state = {"memory": self.memory()}
        self.index = self.rows(case.steps, case.batch, case.heads, case.reads)
        self.weights = self.random(case.steps, case.batch, case.heads, case.reads).unbind()
        if case.mode == "train":
            self.parameters = {f"weights {t}": weights.requires_grad_() for t, weights in enumerate(map(Tensor.clone, self.weights))}
            self.weights = tuple(self.parameters.values())
        self.grad = self.random(case.batch, case.heads, case.word_size)

    def call(self, t: int) -> Tensor:
        read: Tensor = self.module.sparse_read(self.state["memory"], self.index[t], self.weights[t])
        return read

    def undo(self) -> None:
        for read in self.results:
            read.backward(self.grad)

    def compared(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in super().compared().items()}


class SparseWrite(Op):
    """R heads wipe a row each and add to it and to K others; undone by rollback."""

    def __init__(self, case: Case, module: ModuleType, dtype: torch.dtype) -> None:
        super().__init__(case, module, dtype)
        memory, shape = self.memory(), (case.steps, case.batch, case.heads)
        self.state = {"memory": memory, "norms": row_norms(memory.to(self.random(0).dtype))}
        self.erased = self.rows(*shape)
        self.index = torch.cat([self.rows(*shape, case.reads), self.erased.unsqueeze(-1)], dim=-1)
        self.weights, self.values = self.random(*shape, case.reads + 1), self.random(*shape, case.word_size, normal=True)

    def call(self, t: int) -> Any:
        return self.module.sparse_write(*self.state.values(), self.index[t], self.weights[t], self.values[t], self.erased[t])

    def undo(self) -> None:
        for journal in reversed(self.results):
            self.module.rollback(*self.state.values(), journal)

    def compared(self) -> dict[str, Tensor]:
        return self.state

    @property
    def last(self) -> Tensor:
        content: Tensor = self.results[-1].content
        return content


class Ring(Op):
    """The least recently used row popped, K others touched."""

    def __init__(self, case: Case, module: ModuleType, dtype: torch.dtype) -> None:
        super().__init__(case, module, dtype)
        self.ring = module.LruRing(case.batch, case.slots, case.device)
        self.ring.reserve(2 * case.slots)  # as far as it grows before it is compacted
        self.state = {"last": self.ring.last, "queue": self.ring.queue}
        self.touched = self.rows(case.steps, case.batch, case.reads)
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

    def compared(self) -> dict[str, Tensor]:
        return {"results": torch.stack(self.results), "last": self.ring.last}


class Links(Op):
    """Base of the ops on SDNC's link matrices, K_L entries a row."""

    def __init__(self, case: Case, module: ModuleType, dtype: torch.dtype) -> None:
        super().__init__(case, module, dtype)
        batch, steps, entries = case.batch, case.steps, LINK_ENTRIES
        self.links = SparseLinks.empty(batch, case.slots, entries, self.random(0).dtype, case.device)
        self.state = vars(self.links)
        self.written, self.weights = self.distinct_rows(steps + 1, entries), self.random(steps + 1, batch, entries) / entries
        self.index = self.rows(steps, batch, case.heads, case.reads)
        self.read_weights = self.random(steps, batch, case.heads, case.reads)
        for t in range(steps):  # matrices that hold what these steps write, as in a long episode
            reference.link_update(self.links, (self.written[t], self.weights[t]), (self.written[t + 1], self.weights[t + 1]))

    def compared(self) -> dict[str, Tensor]:
        """Entries of a row may stand in any order."""
        return {side: self.dense(self.state[f"{side}_columns"], self.state[f"{side}_values"]) for side in ("after", "before")}

    def dense(self, columns: Tensor, values: Tensor) -> Tensor:
        """Sparse vectors [..., S] as full ones [..., N + 1], the last for what is not there."""
        full = values.new_zeros(*values.shape[:-1], self.case.slots + 1)
        return full.scatter_add_(-1, torch.where(columns < 0, self.case.slots, columns).long(), values)


class LinkUpdate(Links):
    """One write's effect on both matrices; undone by swapping back."""

    def call(self, t: int) -> Any:
        before, write = ((self.written[at], self.weights[at]) for at in (t, t + 1))
        return self.module.link_update(self.links, before, write)

    def undo(self) -> None:
        for change in reversed(self.results):
            change.swap()

    @property
    def last(self) -> Tensor:
        return self.links.after_values


class LinkRead(Links):
    """Forward and backward weights of R heads of K rows."""

    def call(self, t: int) -> Any:
        return self.module.link_read(self.links, self.index[t], self.read_weights[t])

    def compared(self) -> dict[str, Tensor]:
        return {f"{t} {side}": self.dense(*pair) for t, result in enumerate(self.results) for side, pair in zip("fb", result, strict=True)}


class LinkSteps(Links):
    """All link work of T steps, an update and both reads each: natively in one call, as the sequence kernels do it."""

    def __init__(self, case: Case, module: ModuleType, dtype: torch.dtype) -> None:
        super().__init__(case, module, dtype)
        support = 1 + case.heads * case.reads
        self.supports, self.support_weights = (
            self.distinct_rows(case.steps, support),
            self.random(case.steps, case.batch, support) / support,
        )
        self.start = torch.full((case.batch, LINK_ENTRIES), -1, device=case.device), self.random(case.batch, LINK_ENTRIES) * 0

    def run(self, steps: int) -> None:
        arguments = (self.supports[:steps], self.support_weights[:steps], self.index[:steps], self.read_weights[:steps])
        self.results.append(self.module.link_steps(self.links, self.start, *arguments))

    def compared(self) -> dict[str, Tensor]:
        sides = zip(("forward", "backward", "precedence"), self.results[-1], strict=True)
        return {**super().compared(), **{side: self.dense(*pair) for side, pair in sides}}


OPS: dict[str, type[Op]] = {
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
    """`op:NAME`: runs natively if that is asked for (or `auto`) and can be."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        name = case.model.partition(":")[2]
        real = torch.empty(0, dtype=torch.float64 if case.dtype == "float64" else torch.float32, device=case.device)
        self.why_torch = None if name == "copy" or case.kernels == "torch" else native.why_not(real, case.word_size)
        self.kernels = "torch" if name == "copy" else native.choose(case.kernels, real, case.word_size)
        self.op = OPS[name](case, ops if self.kernels == "native" else reference, self.dtype)
        self.state = self.op.state

    @classmethod
    def names(cls) -> list[str]:
        """The ops there are."""
        return list(OPS)

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int]:
        """The state: what is searched and changed."""
        item = {"float32": 4, "float64": 8, "bfloat16": 2}[case.dtype]
        numbers = {"copy": 2 * case.word_size, "lru_ring": 5, "link": 4 * LINK_ENTRIES}
        name = case.model.partition(":")[2]
        each = next((count for prefix, count in numbers.items() if name.startswith(prefix)), case.word_size + 1)
        return {"state": case.batch * case.slots * each * item}

    @classmethod
    def moved_bytes(cls, case: Case) -> int:
        """Of one call, by `kernels.traffic`."""
        rows = live_rows(case) if case.index == "live" else case.slots
        item = {"float32": 4, "float64": 8, "bfloat16": 2}[case.dtype]
        sizes = (case.batch, case.slots, rows, case.word_size, case.heads, case.reads, LINK_ENTRIES, item, case.mode == "train")
        return traffic.TRAFFIC[case.model.partition(":")[2]](traffic.Sizes(*sizes))

    @property
    def backend(self) -> dict[str, str]:
        """Only a search has an index."""
        return {"kernels": self.kernels, "index": self.case.index}

    @property
    def fallback(self) -> str | None:
        """As `models.native` says."""
        return self.why_torch

    def parameters(self) -> dict[str, Tensor]:
        """Weights that receive gradients."""
        return self.op.parameters

    def forward(self, steps: int | None = None) -> tuple[Tensor, Any]:
        """T calls; y is (a tensor of) the last one's result."""
        self.op.results = []
        with nullcontext() if self.op.parameters else torch.no_grad():
            self.op.run(self.case.steps if steps is None else steps)
        return self.op.last, self.state

    def backward(self, y: Tensor) -> None:
        """Gradients or undo of all calls."""
        self.op.undo()

    def clear(self) -> None:
        """Results and gradients are let go."""
        self.op.results = []
        for parameter in self.op.parameters.values():
            parameter.grad = None

    def observables(self) -> dict[str, Tensor]:
        """Results, state after the calls, and after they were taken back, and gradients."""
        self.forward()
        after = {name: value.clone() for name, value in self.op.compared().items()}
        self.op.undo()
        undone = {f"{name}, taken back": value.clone() for name, value in self.op.compared().items() if name != "results"}
        return after | undone | {name: value.grad for name, value in self.op.parameters.items() if value.grad is not None}


def live_rows(case: Case) -> int:
    """Rows that were written: all, or those that T steps of R heads write into an empty memory."""
    return case.slots if case.fill == "full" else min(case.slots, case.steps * case.heads)
