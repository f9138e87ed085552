"""`sparse-delta-memory`: the authors' SDM (Cabannes et al. 2026), CUDA only and CC-BY-NC 4.0: never bundled, and never copied from.

Its documentation names `SparseDeltaMemory` and `SparseDeltaMemoryArgs` and some fields of the latter (slots_per_head, num_reads,
num_writes, chunk_size), but not how the layer is called or what its state is. So there is no
adapter: our own `sdm` is written from the equations.
"""

import sys
from typing import NoReturn

from mann_bench.data.case import Case
from mann_bench.kernels.index import Unavailable
from mann_bench.peers.peer import Peer

PYTHON = (3, 12)  # the least that it has a distribution for


class SparseDeltaMemory(Peer):
    """A name for the authors' package in lists and suites, and the reason why it is not measured."""

    package = "sparse-delta-memory"
    needs_modules = ("sparse_delta_memory",)
    dtypes = ("float32", "bfloat16")
    devices = ("cuda",)

    def __init__(self, *, input_size: int, output_size: int, slots: int, word_size: int = 32, heads: int = 4, reads: int = 4) -> NoReturn:
        raise Unavailable(self.why_not("cuda"))

    @classmethod
    def why_not(cls, device: str = "cpu", dtype: str = "float32") -> str:
        if sys.version_info < PYTHON:
            here = ".".join(map(str, sys.version_info[:2]))
            return f"sparse-delta-memory needs Python >= 3.12, this is {here}; model sdm is our own of the same equations"
        if not device.startswith("cuda"):
            return "sparse-delta-memory runs on CUDA only; model sdm is our own of the same equations"
        return (
            "sparse-delta-memory does not document how its layer is called: it has no adapter; model sdm is our own of the same equations"
        )

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int]:
        """Nothing: it does not run."""
        return {}
