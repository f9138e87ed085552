"""LSTM, the baseline without an external memory (Hochreiter and Schmidhuber 1997)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.models.mann import check_at_least, check_input
from mann_bench.models.modes import input_for, ordinary
from mann_bench.models.padded import check_elements, check_lengths
from mann_bench.models.phases import phase
from mann_bench.models.state import Fill, State


@dataclass
class LSTMState(State):
    """Hidden and cell state, batch first, unlike torch's layout."""

    hidden: Tensor  # [B, H]
    cell: Tensor  # [B, H]


class LSTM(nn.Module):
    """One LSTM layer and an output layer: input_size X, output_size Y, hidden H."""

    def __init__(self, *, input_size: int, output_size: int, hidden: int = 100) -> None:
        super().__init__()
        for name, size in {"input_size": input_size, "output_size": output_size, "hidden": hidden}.items():
            check_at_least(name, size, 1)
        self.input_size, self.output_size, self.hidden = input_size, output_size, hidden
        self.controller = nn.LSTM(input_size, hidden)
        self.output = nn.Linear(hidden, output_size)

    def initial_state(self, batch: int, fill: Fill = "empty", seed: int = 0) -> LSTMState:
        """Make a state of zeros; `fill` and `seed` have no effect without a memory."""
        check_at_least("batch", batch, 1)
        weight = self.output.weight
        with ordinary(weight.device):
            zeros = weight.detach().new_zeros(batch, self.hidden)
            return LSTMState(zeros, zeros.clone())

    def reset_state(self, state: LSTMState, elements: Tensor | Sequence[int], fill: Fill = "empty", seed: int = 0) -> LSTMState:
        """Set the state of some batch elements, given by number or as a mask bool [B], to zeros."""
        batch, device = len(state.hidden) if isinstance(state, LSTMState) else 1, self.output.weight.device
        self.check_state(state, batch, device)
        which = torch.tensor(check_elements(elements, batch), dtype=torch.int64, device=device)
        return state.map(lambda tensor: tensor.index_fill(0, which, 0))

    def forward(self, x: Tensor, state: LSTMState | None = None, lengths: Tensor | Sequence[int] | None = None) -> tuple[Tensor, LSTMState]:
        """Run a sequence: x [T, B, X] -> y [T, B, Y] and the state after the last step; without a state, from zeros.

        With `lengths` int64 [B] elements end early: as of `MANN.forward`.
        """
        weight = self.output.weight
        x = input_for(weight, x)
        check_input(x, self.input_size, weight)
        state = self.initial_state(x.shape[1]) if state is None else state
        self.check_state(state, x.shape[1], x.device)
        ends = check_lengths(lengths, x)
        with ordinary(weight.device), phase("controller"):
            before = state.hidden.unsqueeze(0), state.cell.unsqueeze(0)
            if ends is not None:
                return self.run_padded(x, before, ends)
            hidden, (last, cell) = self.controller(x, before)
            return self.output(hidden), LSTMState(last[0], cell[0])

    def run_padded(self, x: Tensor, before: tuple[Tensor, Tensor], lengths: Lengths) -> tuple[Tensor, LSTMState]:
        """Run the steps that each element has; torch packs sequences of at least one."""
        past = lengths.past(x.device).unsqueeze(2)
        at_least_one = torch.tensor(lengths.each).clamp_min(1)
        packed = pack_padded_sequence(x.masked_fill(past, 0), at_least_one, enforce_sorted=False)
        outputs, after = self.controller(packed, before)
        y = self.output(pad_packed_sequence(outputs, total_length=len(x))[0]).masked_fill(past, 0)
        return y, LSTMState(*(torch.where(past[0], old[0], new[0]) for old, new in zip(before, after, strict=True)))

    def check_state(self, state: object, batch: int, device: torch.device) -> None:
        """ValueError unless the state is one of this model's, for a batch and on a device."""
        if not isinstance(state, LSTMState) or tuple(state.hidden.shape) != (batch, self.hidden) or state.hidden.device != device:
            got = list(state.hidden.shape) if isinstance(state, LSTMState) else type(state).__name__
            raise ValueError(f"state: expected an LSTMState of [{batch}, {self.hidden}] on {device}, got {got}; use initial_state")

    def memory_bytes(self, batch: int, steps: int, mode: str) -> dict[str, int]:
        """Predict the bytes of one pass by cause; none of them depends on N."""
        item = self.output.weight.element_size()
        parameters = sum(p.numel() * p.element_size() for p in self.parameters())
        prediction = {"parameters": parameters, "state": 2 * batch * self.hidden * item}
        if mode == "train":
            prediction["gradients"] = parameters
            prediction["tape"] = steps * batch * (self.input_size + 16 * self.hidden) * item  # oneDNN saves gates, states and a padded copy
        prediction["outputs"] = steps * batch * (self.hidden + self.output_size) * item
        return prediction
