"""The quantities that are plotted and fitted: their column in the data frame, their names, their errors."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

INTERVAL_WIDTH = 2 * 1.96  # of a 95% interval, in standard errors


@dataclass(frozen=True)
class Quantity:
    """A column and its names; `low` and `high` are the columns of its 95% interval, if it has one.

    `floor` is the fraction by which values may differ from size to size for reasons that are not growth.
    """

    key: str
    title: str
    axis: str
    column: str
    floor: float
    low: str | None = None
    high: str | None = None
    is_bytes: bool = False

    def measured_errors(self, rows: pd.DataFrame) -> pd.Series:
        """Return the standard error of the log of each value; 0 for what is counted, not measured."""
        if not (self.low and self.high):
            return pd.Series(0.0, rows.index)
        return pd.Series(np.log(rows[self.high] / rows[self.low]) / INTERVAL_WIDTH, rows.index)

    def errors(self, rows: pd.DataFrame) -> pd.Series:
        """Return the errors that weigh the points of a fit: the measured ones combined with `floor`."""
        return pd.Series(np.hypot(self.measured_errors(rows), self.floor), rows.index)


TIME = Quantity("time", "Time per step", "milliseconds a step", "step_ms_median", 0.1, "step_ms_ci_low", "step_ms_ci_high")
TAPE = Quantity(
    "memory_per_step", "Memory each further step takes", "bytes a step kept for backward", "bytes_per_step", 0.01, is_bytes=True
)
PASS = Quantity("pass_memory", "Memory of a pass", "peak above what is held before", "pass_bytes", 0.1, is_bytes=True)
PEAK = Quantity("peak_memory", "Peak memory in all", "model, memory and pass", "peak_bytes", 0.1, is_bytes=True)
RECALL = Quantity("recall", "Recall", "share of the K best rows found", "recall", 0.0)
QUANTITIES = (TIME, TAPE, PASS, PEAK)
