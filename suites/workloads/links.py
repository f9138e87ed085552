"""The ops on SDNC's link matrices, as workloads `op:link_update`, `op:link_read` and `op:link_steps`."""

import torch
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.kernels import reference
from mann_bench.kernels.index import Reversible
from mann_bench.kernels.reference import SparseLinks
from mann_bench.suites.workloads.op import Op, ResultT
from mann_bench.suites.workloads.random_data import RandomData

LINK_ENTRIES = 8  # K_L of Rae et al. 2016, supplement D

SparseVectors = tuple[Tensor, Tensor]  # columns and values


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
