"""The sparse memory operations on native kernels, with the names and signatures of their plain twins in `kernels/reference`.

Each is a torch operator `torch.ops.mann_bench.*` with a fake kernel, so it composes with torch.compile. `sparse_read` is differentiable.
The others change their arguments in place or return row numbers. A bad argument is a ValueError that says what was expected and what came.
"""

from mann_bench.kernels.ops.byte_rows import byte_rows, renew_byte_rows
from mann_bench.kernels.ops.content import topk_content
from mann_bench.kernels.ops.links import LinkUndo, link_read, link_steps, link_update
from mann_bench.kernels.ops.lru_ring import LruRing
from mann_bench.kernels.ops.lsh import LshUndo, lsh_fill, lsh_query, lsh_update
from mann_bench.kernels.ops.product_keys import product_keys
from mann_bench.kernels.ops.reading import sparse_read
from mann_bench.kernels.ops.sparse_rows import rollback, sparse_write

__all__ = [
    "LinkUndo",
    "LruRing",
    "LshUndo",
    "byte_rows",
    "link_read",
    "link_steps",
    "link_update",
    "lsh_fill",
    "lsh_query",
    "lsh_update",
    "product_keys",
    "renew_byte_rows",
    "rollback",
    "sparse_read",
    "sparse_write",
    "topk_content",
]
