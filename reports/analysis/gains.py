"""The gain of a sparse model taken apart: how much is sparsity, and how much is the implementation.

Four times a step at one N: dense and sparse, each step by step in torch and as fast as the run has it. Then

    sparsity         fastest dense time / native sparse time
    implementation   time step by step in torch / fastest time of the same model
    both             dense time step by step in torch / native sparse time = implementation of the dense model x sparsity
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from mann_bench.reports.analysis.ratios import DENSE_TWINS
from mann_bench.reports.data.frame import Row


@dataclass(frozen=True)
class Factor:
    """How many times faster; the interval is the widest that the two medians' 95% intervals allow."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Step:
    """The time of a step in ms with its 95% interval, of one case; `kernels` are those that ran."""

    curve: str
    kernels: str
    case_id: str
    ms: float
    low_ms: float
    high_ms: float

    def over(self, other: "Step") -> Factor:
        """Compute how many times faster the other is."""
        return Factor(self.ms / other.ms, self.low_ms / other.high_ms, self.high_ms / other.low_ms)


@dataclass(frozen=True)
class Gain:
    """The four times of a sparse curve and a dense model at one N.

    Attributes:
        dense: the fastest variant of the dense model, on whatever kernels.
        sparse: the sparse model on native kernels.
        dense_torch: the dense model step by step in torch; None if the run has it not.
        sparse_torch: the sparse model step by step in torch, with the same index; None if the run has it not.
        has_native: whether the run has the dense model on native kernels, in some variant.
    """

    setting: str
    slots: int
    dense_model: str
    sparse_model: str
    index: str
    dense: Step
    sparse: Step
    dense_torch: Step | None
    sparse_torch: Step | None
    has_native: bool

    @property
    def is_apart(self) -> bool:
        """Whether both sides ran on native kernels, so that their ratio is sparsity alone."""
        return self.dense.kernels == self.sparse.kernels

    @property
    def sparsity(self) -> Factor:
        """What sparsity gains, alone if `is_apart`."""
        return self.dense.over(self.sparse)

    @property
    def dense_implementation(self) -> Factor | None:
        """What the implementation gains, in the dense model."""
        return self.dense_torch.over(self.dense) if self.dense_torch else None

    @property
    def sparse_implementation(self) -> Factor | None:
        """What the implementation gains, in the sparse model."""
        return self.sparse_torch.over(self.sparse) if self.sparse_torch else None

    @property
    def both(self) -> Factor | None:
        """What the native sparse model gains over the dense one step by step in torch."""
        return self.dense_torch.over(self.sparse) if self.dense_torch else None


def gains(frame: pd.DataFrame) -> list[Gain]:
    """Take apart every gain whose sides the frame has: same run, setting, N and conditions; of models without options."""
    measured = frame[(frame["status"] == "ok") & frame["step_ms_median"].notna() & (frame["options"] == "")]
    alike: dict[tuple[object, ...], list[Row]] = {}
    for row in measured.to_dict("records"):
        alike.setdefault((row["setting"], row["slots"], row["run"], row["conditions"]), []).append(row)
    found = [gain for rows in alike.values() for gain in _gains(rows)]
    return sorted(found, key=lambda gain: (gain.setting, gain.dense_model, gain.sparse_model, gain.index, gain.slots))


def _gains(rows: list[Row]) -> Iterator[Gain]:
    """The gains among cases that differ in model, variant, index and kernels only."""
    plain = [row for row in rows if row["variant"] == "plain"]
    for sparse in plain:
        if sparse["ran_kernels"] != "native":
            continue
        for model in DENSE_TWINS.get(sparse["model"], ()):
            dense = [row for row in rows if row["model"] == model]
            if dense:
                own = [row for row in plain if (row["model"], row["index"]) == (sparse["model"], sparse["index"])]
                yield Gain(
                    str(sparse["setting"]),
                    int(sparse["slots"]),
                    model,
                    str(sparse["model"]),
                    str(sparse["index"]),
                    _step(min(dense, key=lambda row: float(row["step_ms_median"]))),
                    _step(sparse),
                    _on_torch(row for row in dense if row["variant"] == "plain"),
                    _on_torch(own),
                    any(row["ran_kernels"] == "native" for row in dense),
                )


def _on_torch(rows: Iterable[Row]) -> Step | None:
    """The case among the rows that ran step by step in torch."""
    return next((_step(row) for row in rows if row["ran_kernels"] == "torch"), None)


def _step(row: Row) -> Step:
    median, low, high = (float(row[f"step_ms_{part}"]) for part in ("median", "ci_low", "ci_high"))
    return Step(str(row["curve"]), str(row["ran_kernels"]), str(row["case_id"]), median, low, high)
