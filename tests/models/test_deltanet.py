"""DeltaNet: equal to its equations one element and head at a time; its state is all that it keeps."""

import pytest
import torch

from mann_bench.models import DeltaNet
from tests.support.tape import saved_bytes


@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize("controller", ["none", "lstm"])
def test_equals_the_equations(controller, fill):
    model = DeltaNet(input_size=4, output_size=3, hidden=5, word_size=3, heads=2, key_size=5, controller=controller).double()
    x, expected = torch.randn(8, 2, 4, dtype=torch.float64), []
    state = model.initial_state(2, fill=fill)
    start = state.memory.memory.clone()
    y, after = model(x, state)
    for b in range(2):
        states, reads, outputs = [start[b, head] for head in range(2)], x.new_zeros(2, 3), []
        hidden = cell = x.new_zeros(model.hidden)
        for x_t in x[:, b]:
            source = x_t
            if controller == "lstm":
                hidden, cell = (part[0] for part in model.controller(torch.cat([x_t, reads.flatten()])[None], (hidden[None], cell[None])))
                source = hidden
            keys, queries, values, decay, strength = model.interface(source).split([10, 10, 6, 2, 2])
            reads = torch.zeros(2, 3, dtype=x.dtype)
            for head in range(2):
                k, q, v = keys.view(2, 5)[head], queries.view(2, 5)[head], values.view(2, 3)[head]
                k, q = k / k.square().sum().sqrt(), q / q.square().sum().sqrt()
                a = decay[head] + model.gates.step_bias[head]
                s = torch.exp(-torch.exp(model.gates.log_decay[head]) * torch.log(1 + torch.exp(a))) * states[head]
                states[head] = s + torch.sigmoid(strength[head]) * torch.outer(k, v - s.T @ k)
                reads[head] = states[head].T @ q
            outputs.append(model.output(torch.cat([hidden, reads.flatten()])))
        expected.append(torch.stack(outputs))
        torch.testing.assert_close(after.memory.memory[b], torch.stack(states), rtol=0, atol=1e-12)
    torch.testing.assert_close(y, torch.stack(expected, dim=1), rtol=0, atol=1e-12)


def test_one_state_a_step_is_kept():
    model = DeltaNet(input_size=4, output_size=3, word_size=32, heads=2)
    with saved_bytes() as storages:
        model(torch.randn(20, 1, 4))
    assert sum(storages.values()) == pytest.approx(model.memory_bytes(1, 20, "train")["tape"], rel=0.15)
