"""States: detached, moved, sliced, measured."""

import torch

from mann_bench.models import NTM
from mann_bench.models.state import initial_rows


def test_detach_slice_move_and_size():
    model = NTM(input_size=4, output_size=3, slots=8, heads=1, word_size=5, hidden=6)
    _, state = model(torch.randn(2, 3, 4))
    assert state.memory.memory.requires_grad
    assert not any(t.requires_grad for t in state.detach().tensors())
    assert state[1:2].memory.memory.shape == (1, 8, 5)
    assert state.to(dtype=torch.float64).controller.hidden.dtype == torch.float64
    assert state.size_bytes == model.memory_bytes(3, 2, "infer")["state"]


def test_rows_are_seeded_and_of_unit_scale():
    rows = initial_rows(2, 500, 32, "full", 4, "cpu", torch.float32)
    assert torch.equal(rows, initial_rows(2, 500, 32, "full", 4, "cpu", torch.float32))
    assert abs(float(rows.norm(dim=-1).mean()) - 1) < 0.02
    assert not torch.equal(rows[0], rows[1])
    assert not initial_rows(1, 5, 2, "empty", 0, "cpu", torch.float32).any()
