"""Indexes over the rows of a memory, by name: how SAM and SDNC find the rows nearest to a query.

index = make_index("lsh")                # or a class of your own, as "package.module:Class"
index.build(rows)                        # rows: memory [B, N, W], norms [B, N], num_candidates
nearest = index.query(rows, queries, 4)  # int64 [B, R, 4]
change = index.update(rows, written)     # change.toggle() undoes it
"""

import importlib
from collections.abc import Mapping

from mann_bench.kernels.index.base import Index, Reversible, Rows, Unavailable, candidates_of, exchange, ops_for
from mann_bench.kernels.index.faiss_gpu import FaissGpuExact, FaissGpuIvf
from mann_bench.kernels.index.faiss_ivf import FaissIvf, FaissIvf64, FaissIvf96
from mann_bench.kernels.index.lsh import Lsh, Lsh95, LshFour, LshFourWide, choose_sizes, sizes_for_four
from mann_bench.kernels.index.rebuilt import FaissHnsw, KdForest, Rebuilt
from mann_bench.kernels.index.recall import queries_near, recall_of
from mann_bench.kernels.index.scan import Exact, ExactScan, Live

INDEXES: Mapping[str, type[Index]] = {
    "exact": Exact,
    "exact-scan": ExactScan,
    "live": Live,
    "lsh": Lsh,
    "lsh-95": Lsh95,
    "lsh-four": LshFour,
    "lsh-four-wide": LshFourWide,
    "faiss-ivf": FaissIvf,
    "faiss-ivf-64": FaissIvf64,
    "faiss-ivf-96": FaissIvf96,
    "faiss-hnsw": FaissHnsw,
    "kd-forest": KdForest,
    "faiss-gpu-exact": FaissGpuExact,
    "faiss-gpu-ivf": FaissGpuIvf,
}

__all__ = [
    "INDEXES",
    "Exact",
    "Index",
    "Lsh",
    "Rebuilt",
    "Reversible",
    "Rows",
    "Unavailable",
    "candidates_of",
    "choose_sizes",
    "exchange",
    "find_index",
    "make_index",
    "ops_for",
    "queries_near",
    "recall_of",
    "sizes_for_four",
]


def find_index(name: str) -> type[Index]:
    """Find the class of an index by its name or as `package.module:Class`; ValueError lists the names."""
    if name in INDEXES:
        return INDEXES[name]
    module, colon, attribute = name.partition(":")
    if colon:
        try:
            kind = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"index: expected {name!r} to be importable, got {error}") from error
        if isinstance(kind, type) and issubclass(kind, Index):
            return kind
        raise ValueError(f"index: expected {name!r} to be a subclass of mann_bench.kernels.index.Index, got {kind!r}")
    raise ValueError(f"index: expected one of {', '.join(INDEXES)} or package.module:Class, got {name!r}")


def make_index(name: str, device: str = "cpu") -> Index:
    """Make an empty index for rows on a device; Unavailable, which says what to install, if its library is missing."""
    kind = find_index(name)
    if missing := kind.why_not(device):
        raise Unavailable(missing)
    return kind()
