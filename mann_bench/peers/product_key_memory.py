"""`product-key-memory`: product keys over a table of values, which forward does not write (Lample et al. 2019)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.models.phases import phase
from mann_bench.models.slots.product_keys import sides_of
from mann_bench.peers.peer import PeerLayer, item_bytes


class ProductKeyMemory(PeerLayer):
    """`PKM` of the package, as it comes: a layer norm of queries, values of W numbers, heads that share one table and are added up.

    Args:
        slots: N rows of the table: a perfect square.
        heads: R.
        reads: K, at most the square root of N.
    """

    package = "product-key-memory"
    needs_modules = ("product_key_memory", "colt5_attention", "einops", "local_attention")
    ledger_causes: ClassVar[Mapping[str, str]] = {"layer.values.weight": "memory"}

    def __init__(self, *, input_size: int, output_size: int, slots: int, word_size: int = 32, heads: int = 4, reads: int = 4) -> None:
        side = check(slots, reads)
        layer = self.imported("product_key_memory", "PKM")(dim=word_size, heads=heads, num_keys=side, topk=reads, dim_head=half(word_size))
        super().__init__(layer, input_size=input_size, inner_size=word_size, output_size=output_size)

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int]:
        """The table, the keys, and in training the gradient of the table: an EmbeddingBag without sparse gradients makes one of N rows."""
        side, item = check(case.slots, case.reads), item_bytes(case)
        keys = 2 * case.heads * side * half(case.word_size) * item
        prediction = {"parameters": keys, "memory": case.slots * case.word_size * item}
        if case.mode == "train":
            scores = 2 * case.batch * case.heads * side * item  # a step
            prediction |= {"gradients": keys + prediction["memory"], "tape": case.steps * scores}
        return prediction

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        """Run x [T, B, X] -> y [T, B, Y]; there is no state."""
        inner = self.project(x)
        with phase("read"):
            inner = self.layer(inner)
        return self.answer(inner), None


def check(slots: int, reads: int) -> int:
    """The side of N slots; ValueError unless N is a perfect square whose side is at least K."""
    side = sides_of(slots, 2)[0]
    if reads > side:
        raise ValueError(f"reads: expected at most {side}, the keys of a factor of {slots} slots, got {reads}")
    return side


def half(word_size: int) -> int:
    """Width of half a query, as of our PKM."""
    return -(-word_size // 2)
