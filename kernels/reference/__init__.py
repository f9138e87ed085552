"""Reference of every sparse operation in plain torch, on any device and in any float dtype; fast paths are tested against it."""

from mann_bench.kernels.reference.byte_rows import byte_rows, renew_byte_rows, score_bounds
from mann_bench.kernels.reference.content import EPSILON, cosine_to_rows, row_norms, topk_content
from mann_bench.kernels.reference.links import (
    LinkUndo,
    SparseLinks,
    add_sparse,
    largest_entries,
    largest_first,
    link_read,
    link_steps,
    link_update,
)
from mann_bench.kernels.reference.lru_ring import LruRing
from mann_bench.kernels.reference.lsh import LshSizes, LshTables, LshUndo, lsh_fill, lsh_query, lsh_update
from mann_bench.kernels.reference.product_keys import search
from mann_bench.kernels.reference.sparse_rows import WriteJournal, erase_survivors, gather_rows, rollback, sparse_read, sparse_write

__all__ = [
    "EPSILON",
    "LinkUndo",
    "LruRing",
    "LshSizes",
    "LshTables",
    "LshUndo",
    "SparseLinks",
    "WriteJournal",
    "add_sparse",
    "byte_rows",
    "cosine_to_rows",
    "erase_survivors",
    "gather_rows",
    "largest_entries",
    "largest_first",
    "link_read",
    "link_steps",
    "link_update",
    "lsh_fill",
    "lsh_query",
    "lsh_update",
    "renew_byte_rows",
    "rollback",
    "row_norms",
    "score_bounds",
    "search",
    "sparse_read",
    "sparse_write",
    "topk_content",
]
