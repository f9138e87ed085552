"""LSTM, the baseline without an external memory (Hochreiter and Schmidhuber 1997)."""

from dataclasses import dataclass

from torch import Tensor, nn

from mann_bench.models.mann import check_at_least, check_input
from mann_bench.models.modes import input_for, ordinary
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

    def forward(self, x: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Run a sequence: x [T, B, X] -> y [T, B, Y] and the state after the last step; without a state, from zeros."""
        weight = self.output.weight
        x = input_for(weight, x)
        check_input(x, self.input_size, weight)
        state = self.initial_state(x.shape[1]) if state is None else state
        if not isinstance(state, LSTMState) or tuple(state.hidden.shape) != (x.shape[1], self.hidden) or state.hidden.device != x.device:
            got = list(state.hidden.shape) if isinstance(state, LSTMState) else type(state).__name__
            raise ValueError(f"state: expected an LSTMState of [{x.shape[1]}, {self.hidden}] on {x.device}, got {got}; use initial_state")
        with ordinary(weight.device), phase("controller"):
            hidden, (last, cell) = self.controller(x, (state.hidden.unsqueeze(0), state.cell.unsqueeze(0)))
            return self.output(hidden), LSTMState(last[0], cell[0])

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
