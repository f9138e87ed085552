"""A smaller batch from the first elements of a state, without a copy of the memory."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.models import MODELS, SPARSE, make
from tests.support.sparse_states import in_place

models = pytest.mark.parametrize("name", MODELS)
sparse = pytest.mark.parametrize("name", SPARSE)
CASES = [*((name, index) for name in SPARSE for index in ("exact", "lsh")), ("sam", "faiss-hnsw")]  # a library runs on torch alone


def sequence(steps: int, batch: int) -> Tensor:
    return torch.randn(steps, batch, 4, dtype=torch.float64)


def used(model: Any, fill: str = "empty") -> Any:
    with torch.no_grad():
        return model(sequence(5, 4), model.initial_state(4, fill=fill), [2, 5, 1, 5])[1]


def same(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, others[name]) for name, tensor in some.items())


@pytest.mark.parametrize("fill", ["empty", "full"])
@models
def test_computes_as_a_copy(name, fill):
    model, x = make(name), sequence(6, 3)
    state = used(model, fill)
    parameters = list(model.parameters())
    expected, _ = model(x, state[:3])
    wanted = torch.autograd.grad(expected.square().sum(), parameters)
    narrow = state.first(3)
    got, _ = model(x, narrow)
    assert torch.equal(got, expected)
    for a, b in zip(torch.autograd.grad(got.square().sum(), parameters), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        whole, _ = model(sequence(2, 4), state)
    assert bool(whole.isfinite().all())


@models
def test_shares_its_tensors(name):
    state = used(make(name))
    narrow = state.first(3)
    for part, whole in zip(narrow.tensors(), state.tensors(), strict=True):
        made = "planes" in name or part.shape == whole.shape
        assert made or part.data_ptr() == whole.data_ptr()


@pytest.mark.parametrize(("name", "index"), CASES)
class TestTheLargerState:
    """Stays valid: what a narrow one changes is undone when it is used again."""

    def prepared(self, name: str, index: str) -> tuple[Any, Any, dict[str, Tensor]]:
        if index == "faiss-hnsw":
            pytest.importorskip("faiss")
        model = make(name, slots=40, index=index)
        state = used(model)
        return model, state, in_place(state)

    def test_after_backward(self, name, index):
        model, state, before = self.prepared(name, index)
        for _ in range(2):
            model(sequence(4, 3), state.first(3))[0].sum().backward()
            assert same(before, in_place(state))
        y, after = model(sequence(4, 4), state)
        y.sum().backward()
        assert same(before, in_place(state))
        with torch.no_grad():
            model(sequence(4, 4), after.detach())

    def test_after_inference(self, name, index):
        """In several calls, and also where only the narrow state has moved on by truncated backpropagation."""
        model, state, before = self.prepared(name, index)
        x = sequence(4, 4)
        expected, _ = model(x, copy.deepcopy(state))
        with torch.no_grad():
            narrow = state.first(2)
            for _ in range(3):
                _, narrow = model(sequence(3, 2), narrow)
        y, narrow = model(sequence(3, 2), narrow)
        y.sum().backward()
        narrow = narrow.detach()
        y, _after = model(x, state)
        assert torch.equal(y, expected)
        y.sum().backward()
        assert same(before, in_place(state))
        with pytest.raises(RuntimeError, match="this state is stale"):
            model(sequence(3, 2), narrow)

    def test_is_refused_while_a_backward_of_the_narrow_one_is_due(self, name, index):
        """And taken again once it has run, or is rolled back from either."""
        model, state, before = self.prepared(name, index)
        for remedy in ("backward", "rollback", "rollback of the larger"):
            y, after = model(sequence(4, 3), state.first(3))
            with pytest.raises(RuntimeError, match=r"backward has not run: run it, or undo the pass with state\.rollback\(\)"):
                model(sequence(4, 4), state)
            if remedy == "backward":
                y.sum().backward()
            else:
                (after if remedy == "rollback" else state).rollback()
            assert same(before, in_place(state))
            model(sequence(4, 4), state)[0].sum().backward()


@sparse
def test_a_narrow_state_is_refused_while_the_larger_is_in_use(name):
    model = make(name)
    state = used(model)
    narrow = state.first(3)
    y, _after = model(sequence(4, 4), state)
    with pytest.raises(RuntimeError, match="backward has not run"):
        model(sequence(4, 3), narrow)
    with pytest.raises(RuntimeError, match="backward has not run"):
        state.first(3)
    y.sum().backward()
    model(sequence(4, 3), narrow)[0].sum().backward()
    with torch.no_grad():
        model(sequence(4, 4), state)
    for use in (lambda: model(sequence(4, 3), narrow), lambda: state.first(3)):
        with pytest.raises(RuntimeError, match="this state is stale"):
            use()


@models
def test_gradients_flow_from_a_narrow_state_into_the_pass_before(name):
    model, x, z = make(name), sequence(4, 4), sequence(5, 2)
    parameters = list(model.parameters())
    wanted = [torch.zeros_like(parameter) for parameter in parameters]
    for element in range(4):
        own = slice(element, element + 1)
        y, after = model(x[:, own], model.initial_state(1))
        loss = y.square().sum()
        if element < 2:
            loss = loss + model(z[:, own], after)[0].square().sum()
        for total, gradient in zip(wanted, torch.autograd.grad(loss, parameters), strict=True):
            total += gradient
    y, after = model(x, model.initial_state(4))
    w, _ = model(z, after.first(2))
    got = torch.autograd.grad(y.square().sum() + w.square().sum(), parameters)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@sparse
def test_a_narrow_state_is_reset_saved_and_copied(name, tmp_path):
    model = make(name)
    state = used(model)
    before = in_place(state)
    with torch.no_grad():
        _, narrow = model(sequence(3, 3), state.first(3))
        narrow = model.reset_state(narrow, [1]).first(2)
        torch.save(narrow, tmp_path / "state.pt")
        x = sequence(3, 2)
        outputs = [model(x, of)[0] for of in (torch.load(tmp_path / "state.pt"), copy.deepcopy(narrow), narrow[:], narrow)]
        model(sequence(3, 4), state)
        assert all(torch.equal(y, outputs[0]) for y in outputs[1:])
    state.rollback()
    assert not same(before, in_place(state))  # inference of the larger state moved it on


@models
def test_wrong_counts_are_named(name):
    state = make(name).initial_state(4)
    for count in (0, 5, -1, True, 2.0):
        with pytest.raises(ValueError, match="count: expected a whole number from 1 to 4, the batch of this state, got"):
            state.first(count)
