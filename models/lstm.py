"""LSTM, the baseline without an external memory (Hochreiter and Schmidhuber 1997)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mann_bench.kernels.sequence.lengths import Lengths, RunningSteps
from mann_bench.models.mann import check_at_least, check_input
from mann_bench.models.modes import input_for, ordinary
from mann_bench.models.padded import check_elements, check_lengths
from mann_bench.models.phases import phase
from mann_bench.models.state import Fill, State

SHUT = 1e4  # far more than a gate's sum


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
            if ends is not None:
                return (self.run_packed if x.is_cuda else self.run_halving)(x, state, ends)
            hidden, (last, cell) = self.controller(x, (state.hidden.unsqueeze(0), state.cell.unsqueeze(0)))
            return self.output(hidden), LSTMState(last[0], cell[0])

    def run_packed(self, x: Tensor, before: LSTMState, lengths: Lengths) -> tuple[Tensor, LSTMState]:
        """Run the steps that each element has; torch packs sequences of at least one."""
        past = lengths.past(x.device).unsqueeze(2)
        at_least_one = torch.tensor(lengths.each).clamp_min(1)
        packed = pack_padded_sequence(x.masked_fill(past, 0), at_least_one, enforce_sorted=False)
        outputs, after = self.controller(packed, (before.hidden.unsqueeze(0), before.cell.unsqueeze(0)))
        y = self.output(pad_packed_sequence(outputs, total_length=len(x))[0]).masked_fill(past, 0)
        states = zip((before.hidden, before.cell), after, strict=True)
        return y, LSTMState(*(torch.where(past[0], old, new[0]) for old, new in states))

    def run_halving(self, x: Tensor, before: LSTMState, lengths: Lengths) -> tuple[Tensor, LSTMState]:
        """As `run_packed`, for which torch has no fast kernels on the CPU: when half of the elements have ended, the others go on alone.

        One more input is 1 at the steps that an element does not have. Its weights shut the input gate there and open the forget gate, to 0
        and 1 exactly, so that the cell stays as it is.
        """
        past = lengths.past(x.device).unsqueeze(2)
        weight_ih, *others = self.controller.all_weights[0]
        stay = weight_ih.new_tensor([-SHUT, SHUT, 0, 0]).repeat_interleave(self.hidden)
        weights: list[Tensor] = [torch.cat([weight_ih, stay.unsqueeze(1)], dim=1), *others]
        order = lengths.order()  # the longest first
        inputs = torch.cat([x.masked_fill(past, 0), past.to(x.dtype)], dim=2)[:, order]
        running, state = len(order), before.map(lambda tensor: tensor[order])
        parts, cells, first = [state.hidden.unsqueeze(0)], [], 0
        while running:
            left = running // 2
            end = lengths.each[order[left]]
            if end > first:
                ends = state.hidden.unsqueeze(0), state.cell.unsqueeze(0)
                h, _, cell = torch.lstm(inputs[first:end, :running].contiguous(), ends, weights, True, 1, 0.0, self.training, False, False)
                parts.append(functional.pad(h, (0, 0, 0, len(order) - running)))
                state, first = LSTMState(h[-1], cell[0]), end
            cells.append(state.cell[left:])
            running, state = left, state.map(lambda tensor, left=left: tensor[:left])  # type: ignore[misc]
        back = torch.tensor(order).argsort()
        hidden = torch.cat(parts)[:, back]  # before the first step, and after each
        steps = RunningSteps(lengths, len(x), len(order), x.device)
        y = steps.spread(self.output(steps.take(hidden[1:])), zeros=True)
        last = hidden[list(lengths.each), range(len(order))]
        return y, LSTMState(last, torch.cat(cells[::-1])[back])

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
