"""Single batch elements set back to what `initial_state` gave them, the others going on."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mann_bench.kernels.reference import lru_ring
from mann_bench.models.sparse.reset import Reset
from tests.support.models import DENSE, MODELS, SPARSE, make, tensors_of
from tests.support.sparse_states import choices, in_place, states

models = pytest.mark.parametrize("name", MODELS)
sparse = pytest.mark.parametrize("name", SPARSE)
INDEXES: dict[str, dict[str, Any]] = {
    "exact": {"slots": 11},
    "lsh": {"slots": 300, "index": "lsh"},
    "live": {"slots": 40, "index": "live"},
}
CASES = [*((name, options) for name in SPARSE for options in INDEXES.values()), ("sam", {"slots": 40, "index": "faiss-hnsw"})]


def sequence(steps: int, batch: int = 3) -> Tensor:
    return torch.randn(steps, batch, 4, dtype=torch.float64)


def one(state: Any, element: int) -> Any:
    return state[element : element + 1]


def held(state: Any) -> list[Tensor]:
    shared = hasattr(state, "memory") and hasattr(state.memory, "rows")
    return [*states(state).values()] if shared else tensors_of(state)


@models
def test_elements_begin_anew_and_the_others_go_on(name):
    model, x = make(name), sequence(6)
    with torch.no_grad():
        _, before = model(sequence(4), model.initial_state(3))
        middle = one(before, 1)
        state = model.reset_state(before, [2, 0])
        for element in (0, 2):
            for got, expected in zip(held(one(state, element)), held(model.initial_state(1)), strict=True):
                assert torch.equal(got, expected)
        y, _ = model(x, state)
        fresh, _ = model(x[:, ::2], model.initial_state(2))
        going_on, _ = model(x[:, 1:2], middle)
    torch.testing.assert_close(y[:, ::2], fresh, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(y[:, 1:2], going_on, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_all_of_a_memory_is_as_at_the_start(name, options):
    """Also the order of use and the index, to the bit; once more after that."""
    if options.get("index") == "faiss-hnsw":
        pytest.importorskip("faiss")
    model = make(name, **options)
    state = model.initial_state(3)
    start, order = in_place(state), choices(state)
    with torch.no_grad():
        for steps in (5, 2):
            _, state = model(sequence(steps), state)
            state = model.reset_state(state, torch.tensor([True, True, True]))
            found = in_place(state)
            assert all(torch.equal(found[key], value) for key, value in start.items())
            assert choices(state) == order


@pytest.mark.parametrize("index", ["exact", "lsh"])
@sparse
def test_takes_as_many_changes_as_rows_were_written(name, index, monkeypatch):
    made, initialise = [], Reset.__init__

    def noted(self: Reset, *arguments: Any) -> None:
        initialise(self, *arguments)
        made.append(sum(new.numel() for _, _, new in [*self.saved, *getattr(self.of_index, "saved", [])]))

    monkeypatch.setattr(Reset, "__init__", noted)
    for slots in (1024, 1023):  # as many tables and bits
        model = make(name, slots=slots, index=index)
        with torch.no_grad():
            _, state = model(sequence(3).fill_(0.3), model.initial_state(3))
            assert model.reset_state(state, [1]).memory.rows.counts in ((6, 0, 6), (3, 0, 3))
    assert made[0] < 6 * (1 + 1 + 1 + 4 + 32 + 20 * 9)
    if index == "exact":
        assert made[0] == made[1]


@sparse
def test_an_element_whose_queue_was_compacted(name, monkeypatch):
    monkeypatch.setattr(lru_ring, "_SLACK", 8)
    model = make(name)
    state = model.initial_state(3)
    with torch.no_grad():
        for _ in range(3):
            _, state = model(sequence(5), state)
        assert state.memory.rows.ring.start is not None
        state = model.reset_state(state, [1])
        assert state.memory.rows.ring.order()[1].tolist() == list(range(7))
        _y, state = model(sequence(2), state)
        state = model.reset_state(state, [1])
        assert state.memory.rows.ring.order()[1].tolist() == list(range(7))
        assert choices(one(state, 1)) == choices(model.initial_state(1))


@models
def test_gradients_of_a_chain_with_a_reset_inside(name):
    """Of the reset element they are cut, as of two sequences; the other's flow on through state and memory."""
    model, (x, z) = make(name), (sequence(4, 2), sequence(5, 2))
    parameters = list(model.parameters())
    state = model.initial_state(2)
    before = held(state[:])
    y, after = model(x, state)
    after = model.reset_state(after, [0])
    w, _ = model(z, after)
    got = torch.autograd.grad(y.sum() + w.square().sum(), parameters)
    assert all(torch.equal(a, b) for a, b in zip(held(state), before, strict=True))
    first, second = (model(x[:, :1], model.initial_state(1))[0], model(z[:, :1], model.initial_state(1))[0])
    third, last = model(x[:, 1:], model.initial_state(1))
    fourth, _ = model(z[:, 1:], last)
    wanted = torch.autograd.grad(first.sum() + second.square().sum() + third.sum() + fourth.square().sum(), parameters)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("index", ["exact", "lsh"])
@sparse
def test_a_reset_in_a_chain_is_taken_back_and_made_again(name, index):
    model = make(name, slots=40, index=index)
    with torch.no_grad():
        _, state = model(sequence(3, 2), model.initial_state(2))
    before = in_place(state)
    y, middle = model(sequence(4, 2), state)
    z, last = model(sequence(4, 2), model.reset_state(middle, [0]))
    end, counts = in_place(last), last.memory.rows.counts
    (y.sum() + z.sum()).backward()
    assert all(torch.equal(a, b) for a, b in zip(in_place(state).values(), before.values(), strict=True))
    assert state.memory.rows.counts is None
    again = last.detach()
    assert all(torch.equal(a, b) for a, b in zip(in_place(again).values(), end.values(), strict=True))
    assert again.memory.rows.counts == counts
    y, middle = model(sequence(4, 2), again)
    model.reset_state(middle, [1]).rollback()
    assert all(torch.equal(a, b) for a, b in zip(in_place(again).values(), end.values(), strict=True))


@sparse
def test_states_before_a_reset_are_stale(name):
    model = make(name)
    with torch.no_grad():
        _, state = model(sequence(3), model.initial_state(3))
        model.reset_state(state, [1])
        with pytest.raises(RuntimeError, match="this state is stale"):
            model(sequence(3), state)


@sparse
def test_random_rows_are_not_kept(name):
    """The remedies of the message work."""
    model = make(name)
    state = model.initial_state(3, fill="full")
    with pytest.raises(ValueError, match=r"keeps no copy of them .* make a new state with initial_state, or begin with fill='empty'"):
        model.reset_state(state, [1])
    with pytest.raises(ValueError, match="keeps no copy"):
        model.reset_state(model.initial_state(3), [1], fill="full")
    model.reset_state(model.initial_state(3), [1])


@pytest.mark.parametrize("name", DENSE)
def test_dense_models_draw_their_random_rows_again(name):
    model = make(name)
    start = model.initial_state(3, fill="full", seed=5)
    with torch.no_grad():
        _, state = model(sequence(3), start)
        state = model.reset_state(state, [1], fill="full", seed=5)
    for got, expected in zip(tensors_of(one(state, 1)), tensors_of(one(start, 1)), strict=True):
        assert torch.equal(got, expected)


def test_a_learned_start_gets_its_gradient():
    model = make("ntm", learned_start=True)
    _, state = model(sequence(3), model.initial_state(3))
    y, _ = model(sequence(3), model.reset_state(state.detach(), [1]))
    assert bool((torch.autograd.grad(y[:, 1].sum(), model.start)[0] != 0).any())


@models
def test_wrong_elements_are_named(name):
    model = make(name)
    state = model.initial_state(3)
    for elements in ([3], [-1], [1, 1], [True], [1.0], torch.tensor([0.5])):
        with pytest.raises(ValueError, match="elements: expected distinct numbers from 0 to 2, or 3 times true or false, got"):
            model.reset_state(state, elements)
    with pytest.raises(ValueError, match="initial_state"):
        model.reset_state(7, [0])
    same = model.reset_state(state, [])
    assert all(torch.equal(a, b) for a, b in zip(same.tensors(), state.tensors(), strict=True))
