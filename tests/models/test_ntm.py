"""NTM in torch: one step against plain loops, its variants against itself."""

import numpy as np
import pytest
import torch

from mann_bench.models import NTM
from tests.support.tape import saved_bytes

SIZES: dict = {"input_size": 4, "output_size": 3, "hidden": 6, "slots": 7, "word_size": 5, "heads": 2, "kernels": "torch"}


def test_gradients_of_variants_equal_the_plain_model():
    plain = NTM(**SIZES).double()
    x = torch.randn(7, 2, 4, dtype=torch.float64)
    variant = NTM(**SIZES, checkpoint=True).double()
    variant.load_state_dict(plain.state_dict())
    gradients = []
    for model in (plain, variant):
        y, _ = model(x, model.initial_state(2, fill="full"))
        y.square().sum().backward()
        gradients.append([y.detach(), *(p.grad for p in model.parameters())])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("write_heads", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_gradcheck(write_heads):
    model = NTM(input_size=3, output_size=2, hidden=4, slots=5, word_size=3, heads=2, write_heads=write_heads, kernels="torch").double()
    state = model.initial_state(2, fill="full")
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: model(x, state)[0], (x, *model.parameters()))


def test_weights_are_distributions_and_one_slot_pair_works():
    model = NTM(**{**SIZES, "slots": 4})
    _, state = model(torch.randn(9, 2, 4))
    for weights in (state.memory.read_weights, state.memory.write_weights):
        np.testing.assert_allclose(weights.detach().sum(-1), 1, rtol=1e-5)
        assert (weights >= 0).all()


def test_learned_start_gets_a_gradient():
    model = NTM(**SIZES, learned_start=True)
    y, _ = model(torch.randn(3, 2, 4))
    y.sum().backward()
    assert model.start is not None
    assert model.start.grad is not None
    assert model.start.grad.abs().sum() > 0


def test_an_untouched_memory_is_kept_once_a_step():
    model = NTM(input_size=4, output_size=3, slots=4096, heads=1, kernels="torch")
    with saved_bytes() as held:
        model(torch.randn(6, 1, 4))
    copies = sum(size for size in held.values() if size == 4096 * 32 * 4)
    assert copies <= (6 + 1) * 4096 * 32 * 4
