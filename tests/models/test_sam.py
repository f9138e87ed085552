"""SAM: equal to autograd through dense copies, with one memory that is restored exactly."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mann_bench.models import SAM
from tests.support.dense_sam import dense_sam

SIZES: dict = {"input_size": 5, "output_size": 3, "hidden": 7, "word_size": 6}


@pytest.fixture(params=["torch", "native"])
def kernels(request):
    """Native and plain kernels must pass the same tests."""
    return request.param


def small(**changes: Any) -> SAM:
    sizes: dict = {**SIZES, "slots": 13, "heads": 2, "reads": 3, **changes}
    return SAM(**sizes).double()


def snapshot(state: Any) -> list[Tensor]:
    rows = state.memory.rows
    return [rows.memory.clone(), rows.norms.clone(), rows.ring.order(), torch.tensor(rows.num_candidates)]


@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize(
    "options", [{}, {"write_heads": 1}, {"erase": "gated"}, {"index": "live"}, {"heads": 1, "reads": 1}, {"slots": 8, "reads": 8}], ids=str
)
def test_equals_autograd_through_dense_copies(fill, options, kernels):
    model = small(kernels=kernels, **options)
    x = torch.randn(11, 2, 5, dtype=torch.float64, requires_grad=True)
    state = model.initial_state(2, fill=fill, seed=3)
    start = state.memory.memory.clone()
    expected = dense_sam(model, x, start, fill == "full")
    gradient = torch.randn_like(expected.y)
    names = ["x", *dict(model.named_parameters())]
    wanted = torch.autograd.grad(expected.y, [x, *model.parameters()], gradient)

    y, after = model(x, state)
    torch.testing.assert_close(y, expected.y, rtol=0, atol=1e-12)
    for b in range(2):
        torch.testing.assert_close(after.memory.memory[b], expected.memory[b], rtol=0, atol=1e-12)
        assert after.memory.rows.ring.order()[b].tolist() == expected.order[b]
    got = torch.autograd.grad(y, [x, *model.parameters()], gradient)
    for name, a, b_ in zip(names, got, wanted, strict=True):
        torch.testing.assert_close(a, b_, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("steps", [1, 2, 37])
@pytest.mark.parametrize("fill", ["empty", "full"])
def test_backward_restores_everything(steps, fill, kernels):
    assert_restores(steps, fill, kernels)


@pytest.mark.parametrize("kernels", [pytest.param("torch", marks=pytest.mark.slow), "native"])
@pytest.mark.parametrize("fill", ["empty", "full"])
def test_backward_restores_a_thousand_steps(fill, kernels):
    """Plain torch from a full memory: `test_rollback_of_a_thousand_steps` of all sparse models."""
    assert_restores(1000, fill, kernels)


def assert_restores(steps, fill, kernels):
    model = SAM(**SIZES, slots=17, heads=3, reads=2, kernels=kernels)
    state = model.initial_state(2, fill=fill)
    before = snapshot(state)
    for _ in range(2):  # the second pass starts where the first did
        y, _ = model(torch.randn(steps, 2, 5), state)
        y.sum().backward()
        for old, new in zip(before, snapshot(state), strict=True):
            assert torch.equal(old, new)


def test_same_pass_twice_is_bit_identical(kernels):
    model, x = SAM(**SIZES, slots=9, heads=2, reads=2, kernels=kernels), torch.randn(30, 1, 5)
    state = model.initial_state(1, fill="full")
    passes = []
    for _ in range(2):
        model.zero_grad()
        y, _ = model(x, state)
        y.square().sum().backward()
        passes.append([y.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*passes, strict=True))


def test_inference_keeps_the_state_and_no_tape(kernels):
    model, x = small(kernels=kernels), torch.randn(12, 2, 5, dtype=torch.float64)
    with torch.no_grad():
        whole, _ = model(x, model.initial_state(2))
        state, parts = model.initial_state(2), []
        for chunk in x.split(5):
            y, state = model(chunk, state)
            parts.append(y)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)
    assert not state.memory.rows.history.standing


def test_misuse_is_reported_with_the_remedy(kernels):
    model, x = small(kernels=kernels), torch.randn(3, 1, 5, dtype=torch.float64)
    state = model.initial_state(1)
    y, after = model(x, state)
    with pytest.raises(RuntimeError, match="backward has not run"):
        model(x, state)
    y.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward ran already"):
        y.sum().backward()
    with pytest.raises(RuntimeError, match="stale"):
        model(x, after)
    model(x, after.detach())[0].sum().backward()

    y, after = model(x, model.initial_state(1))
    after.rollback()
    with pytest.raises(RuntimeError, match="rolled back"):
        y.sum().backward()


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("reads", 14, "reads: expected at most slots"),
        ("heads", 0, "heads: expected a whole number >= 1"),
        ("slots", 3, "slots: expected a whole number >= 4"),
        ("index", "btree", "index: expected one of"),
        ("kernels", "fortran", "kernels: expected one of"),
        ("erase", "never", "erase: expected one of"),
        ("write_heads", 3, "write_heads: expected 1 or heads"),
        ("snapshot", "fp8", "snapshot: expected one of exact, bfloat16, int8, got 'fp8'"),
    ],
)
def test_bad_arguments(argument, value, message):
    with pytest.raises(ValueError, match=message):
        small(**{argument: value})


def test_bad_input_and_state():
    model = small()
    x = torch.randn(3, 1, 5, dtype=torch.float64)
    for bad, message in (
        (x[0], r"x: expected \[T, B, 5\]"),
        (x[..., :4], "x: expected"),
        (x.long(), "torch.float64 on cpu"),
        (x[:0], "T, B >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model(bad)
    with pytest.raises(ValueError, match=r"state.controller.hidden: expected \[1, 7\]"):
        model(x, model.initial_state(2))
    with pytest.raises(ValueError, match="state: expected one made by initial_state"):
        model(x, {"memory": 0})
    with pytest.raises(ValueError, match=r"state.memory.memory: expected \[1, 13, 6\]"):
        model(x, small(slots=12).initial_state(1))


def test_predicted_bytes_are_near_the_state():
    model = SAM(input_size=5, output_size=3, slots=4096)
    state = model.initial_state(2)
    assert model.memory_bytes(2, 10, "train")["state"] == pytest.approx(state.size_bytes, rel=0.01)
    assert "tape" not in model.memory_bytes(2, 10, "infer")
