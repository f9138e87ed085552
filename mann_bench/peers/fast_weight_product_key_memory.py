"""`fast-weight-product-key-memory`: product keys over a table that is written a chunk at a time, into a new table (arXiv 2601.00671)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.models.phases import phase
from mann_bench.models.state import Fill, State, initial_rows
from mann_bench.peers.peer import PeerLayer, item_bytes
from mann_bench.peers.product_key_memory import check, half


@dataclass
class FastWeightState(State):
    """What the package calls `Memories`, batch first; a tensor of no tokens stands for its None."""

    memory: Tensor  # [B, N, R, W] what was written, on top of the table that is a parameter
    keys: Tensor  # [B, 2, R, n, W/2]
    last: Tensor  # [B, 0 or 1, D] the last token
    cached: Tensor  # [B, c, D] tokens of a chunk that is not written yet
    tokens: int = 0

    ledger_causes: ClassVar[Mapping[str, str]] = {"memory": "memory"}


class FastWeightProductKeyMemory(PeerLayer):
    """`fwPKM` of the package. Each head reads K of N slots; at the end of a chunk each of its tokens writes the K slots it read.

    Args:
        slots: N rows of each head: a perfect square.
        heads: R.
        reads: K, read and written, at most the square root of N.
        chunk: tokens between two writes. With 1 a step sees what the step before wrote, as in SAM. A write makes a new table: O(N).
        update: "mean": the package's own delta rule; "gated": with its gated decay (`use_gdn_update`).
    """

    package = "fast-weight-product-key-memory"
    needs_modules = ("fast_weight_product_key_memory", "einops", "einx", "torch_einops_utils")
    dtypes = ("float32",)
    ledger_causes: ClassVar[Mapping[str, str]] = {"layer.memories": "memory"}

    def __init__(
        self,
        *,
        input_size: int,
        output_size: int,
        slots: int,
        word_size: int = 32,
        heads: int = 4,
        reads: int = 4,
        chunk: int = 1,
        update: str = "mean",
    ) -> None:
        check(slots, reads)
        check_chunk(chunk, update)
        self.heads, self.slots, self.word_size = heads, slots, word_size
        width = heads * word_size
        layer = self.imported("fast_weight_product_key_memory", "fwPKM")(
            dim=width,
            heads=heads,
            chunk_size=chunk,
            num_memories=slots,
            dim_queries_keys=heads * half(word_size),
            dim_values=width,
            topk=reads,
            use_gdn_update=update == "gated",
            use_boundary_embed=chunk > 1,  # which replaces the query of a chunk's last token: of all tokens, if a chunk is one
        )
        super().__init__(layer, input_size=input_size, inner_size=width, output_size=output_size)

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int]:
        """The table and what is written on top of it; in training two new tables a chunk; three more while one is made."""
        check(case.slots, case.reads)
        chunk = int(case.options.get("chunk", 1))
        check_chunk(chunk, str(case.options.get("update", "mean")))
        table = case.slots * case.heads * case.word_size * item_bytes(case)
        state, writes = case.batch * table, -(-case.steps // chunk)
        prediction = {"memory": table + state}
        if case.mode == "train":
            return prediction | {"gradients": table, "tape": 2 * (writes + 1) * state, "workspace": 3 * state}
        return prediction | {"workspace": 3 * state}

    def initial_state(self, batch: int, fill: Fill = "empty", seed: int = 0) -> FastWeightState:
        """Nothing written, as the package begins, or N random rows a head."""
        weight = self.project_in.weight
        rows = initial_rows(batch, self.slots * self.heads, self.word_size, fill, seed, weight.device, weight.dtype)
        stored: Any = self.layer.keys
        sides, heads, side, size = stored.shape
        token = weight.new_zeros(batch, 0, weight.shape[0])
        keys = weight.new_zeros(batch, sides, heads, side, size)
        return FastWeightState(rows.view(batch, self.slots, self.heads, self.word_size), keys, token, token.clone())

    def forward(self, x: Tensor, state: FastWeightState) -> tuple[Tensor, FastWeightState]:
        """Run x [T, B, X] -> y [T, B, Y] and the state after it."""
        memories = self.imported("fast_weight_product_key_memory", "Memories")
        cached = state.cached.shape[1]
        past = memories(
            memory_values=state.memory,
            keys=state.keys.transpose(0, 1),
            last_token=state.last if state.last.shape[1] else None,
            cached_tokens=state.cached if cached else None,
            token_count=state.tokens,
            num_cached=cached,
        )
        inner = self.project(x)
        with phase("sequence"):
            inner, after = self.layer(inner, past_memories=past, return_next_memories=True)
        none = inner[:, :0]
        changed = FastWeightState(
            after.memory_values,
            after.keys.transpose(0, 1),
            none if after.last_token is None else after.last_token,
            none if after.cached_tokens is None else after.cached_tokens,
            after.token_count,
        )
        return self.answer(inner), changed


def check_chunk(chunk: int, update: str) -> None:
    """ValueError unless a chunk has tokens and the update is one of the package's."""
    if chunk < 1:
        raise ValueError(f"chunk: expected a whole number >= 1, got {chunk}")
    if update not in ("mean", "gated"):
        raise ValueError(f"update: expected one of mean, gated, got {update!r}")
