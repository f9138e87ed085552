"""Names for the parts of a time step, seen by profilers only: tables, Chrome traces and NVTX ranges all carry these names.

    with phase("write"):
        memory = erase_and_add(...)

Without a profiler a phase costs a quarter of a microsecond.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch.profiler import record_function

# controller: LSTM, interface and output; addressing: weights over rows; search: the nearest rows; rollback: the memory taken back in
# backward; sequence: all of it in one native call (inside of it: `kernels/native/clocks.py`)
PHASES = ("controller", "addressing", "search", "write", "link", "read", "rollback", "sequence")
STEP = "step "  # and the number of the step

T = TypeVar("T")
_NOTHING = nullcontext()


def phase(name: str) -> AbstractContextManager[object]:
    """A range called `name` in whatever profiler is running."""
    return record_function(name) if _profiling() else _NOTHING


def steps(sequence: Iterable[T]) -> Iterator[T]:
    """The elements of a sequence, each step of the loop a range called `step 0`, `step 1`, ..."""
    if not _profiling():
        yield from sequence
        return
    for number, element in enumerate(sequence):
        with record_function(f"{STEP}{number}"):
            yield element


def _profiling() -> bool:
    # In a compiled graph there are no ranges: reading whether a profiler runs would make the graph depend on it, and be compiled for both.
    return not torch.compiler.is_compiling() and bool(torch.autograd.profiler._is_profiler_enabled)
