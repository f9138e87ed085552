"""LSTM: torch's own layer, with a state held by the caller."""

import pytest
import torch

from mann_bench.models import LSTM


def test_chunks_equal_one_piece_and_state_is_checked():
    model, x = LSTM(input_size=4, output_size=2, hidden=5), torch.randn(7, 3, 4)
    whole, _ = model(x)
    state, parts = model.initial_state(3), []
    for chunk in x.split(3):
        y, state = model(chunk, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts), whole)
    with pytest.raises(ValueError, match=r"expected an LSTMState of \[2, 5\]"):
        model(x[:, :2], state)
    with pytest.raises(ValueError, match="hidden: expected a whole number"):
        LSTM(input_size=4, output_size=2, hidden=0)
    assert model.memory_bytes(3, 7, "train")["state"] == state.size_bytes
