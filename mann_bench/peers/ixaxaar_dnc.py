"""`dnc`: the DNC of ixaxaar (Graves et al. 2016), which has a controller of its own.

Every step of a sequence receives the reads of the call before, not, as in the paper, those of the step before. The package's SAM and SDNC
do not run as it comes: docs/peers.md has their error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.models.phases import phase
from mann_bench.models.state import Fill, State, initial_rows
from mann_bench.peers.peer import Peer, item_bytes, projection


@dataclass
class DNCState(State):
    """Controller, memory and last reads, batch first."""

    hidden: Tensor  # [B, 1, H]
    cell: Tensor  # [B, 1, H]
    memory: Tensor  # [B, N, W]
    link: Tensor  # [B, 1, N, N]
    precedence: Tensor  # [B, 1, N]
    read_weights: Tensor  # [B, R, N]
    write_weights: Tensor  # [B, 1, N]
    usage: Tensor  # [B, N]
    reads: Tensor  # [B, R W]

    ledger_causes: ClassVar[Mapping[str, str]] = {"memory": "memory", "link": "link", "precedence": "link", "usage": "ring_and_usage"}


class IxaxaarDNC(Peer, torch.nn.Module):
    """`DNC` of the package with one LSTM layer; it answers in the width of its input, and a projection makes Y of that.

    Args:
        slots: N.
        heads: R.
        hidden: H.
    """

    package = "dnc"
    needs_modules = ("dnc", "numpy")

    def __init__(self, *, input_size: int, output_size: int, hidden: int = 100, slots: int, word_size: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.sizes = (hidden, slots, word_size, heads)
        self.layer = self.imported("dnc", "DNC")(
            input_size=input_size,
            hidden_size=hidden,
            num_hidden_layers=1,
            nr_cells=slots,
            read_heads=heads,
            cell_size=word_size,
            batch_first=False,
        )
        memory = self.layer.memories[0]
        off_diagonal = memory.I
        del memory.I
        memory.register_buffer("I", off_diagonal, persistent=False)  # so that it follows the module to a device and a type
        self.project_out = projection(input_size, output_size)

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int]:
        """Memory and links, a mask of the links' size, and in training what each step makes of them."""
        item = item_bytes(case)
        rows, links = case.batch * case.slots * case.word_size * item, case.batch * case.slots**2 * item
        prediction = {"parameters": case.slots**2 * item, "memory": rows, "link": links}
        if case.mode == "train":
            prediction["tape"] = case.steps * (5 * rows + 2 * links)
        return prediction | {"workspace": 5 * links}

    def initial_state(self, batch: int, fill: Fill = "empty", seed: int = 0) -> DNCState:
        """All zeros, or N random rows."""
        hidden, slots, width, heads = self.sizes
        weight = self.project_out.weight
        zeros = weight.new_zeros
        return DNCState(
            zeros(batch, 1, hidden),
            zeros(batch, 1, hidden),
            initial_rows(batch, slots, width, fill, seed, weight.device, weight.dtype),
            zeros(batch, 1, slots, slots),
            zeros(batch, 1, slots),
            zeros(batch, heads, slots),
            zeros(batch, 1, slots),
            zeros(batch, slots),
            zeros(batch, heads * width),
        )

    def forward(self, x: Tensor, state: DNCState) -> tuple[Tensor, DNCState]:
        """Run x [T, B, X] -> y [T, B, Y] and the state after it."""
        controller = (state.hidden.transpose(0, 1).contiguous(), state.cell.transpose(0, 1).contiguous())
        memory = {their: getattr(state, our) for their, our in NAMES.items()}  # a new table: the package changes its entries
        with phase("sequence"):
            inner, ([(hidden, cell)], memory, reads) = self.layer(x, ([controller], memory, state.reads))
        after = DNCState(hidden.transpose(0, 1), cell.transpose(0, 1), reads=reads, **{our: memory[their] for their, our in NAMES.items()})
        y: Tensor = self.project_out(inner)
        return y, after


NAMES = {
    "memory": "memory",
    "link_matrix": "link",
    "precedence": "precedence",
    "read_weights": "read_weights",
    "write_weights": "write_weights",
    "usage_vector": "usage",
}  # the package's names and ours
