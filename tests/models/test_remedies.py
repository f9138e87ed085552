"""The remedy that an error message names works: each test does what the message of a memory, a model or an op says."""

import copy
import dataclasses
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from mann_bench.kernels import ops
from mann_bench.kernels.reference import LshSizes, LshTables, row_norms
from tests.support.models import MODELS, SPARSE, make

sparse = pytest.mark.parametrize("name", SPARSE)
X = torch.randn(3, 2, 4, dtype=torch.float64)


def pending(name: str) -> tuple[Any, Any, torch.Tensor, Any]:
    """A model, a state, and output and state of a pass whose backward has not run."""
    model = make(name)
    state = model.initial_state(2, fill="full")
    y, after = model(X, state)
    return model, state, y, after


USES: dict[str, Callable[[Any, Any], Any]] = {
    "a pass": lambda model, state: model(X, state),
    "move": lambda model, state: state.to("cpu"),
    "slice": lambda model, state: state[:1],
    "save": lambda model, state: torch.save(state.memory.rows, io.BytesIO()),
    "copy": lambda model, state: copy.deepcopy(state.memory.rows),
}


@sparse
def test_a_state_that_does_not_fit_changes_nothing(name):
    """Also a memory that backward has taken back: the right state brings it forward again."""
    model, _, y, after = pending(name)
    y.sum().backward()
    narrow = dataclasses.replace(after.controller, hidden=after.controller.hidden[:, :-1].contiguous())
    with pytest.raises(ValueError, match=r"state\.controller\.hidden: expected"):
        model(X, dataclasses.replace(after, controller=narrow))
    model(X, after.detach())


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@sparse
class TestABackwardIsDue:
    """Run it, undo the pass with `state.rollback()`, or make two states."""

    def refused(self, name: str, use: Callable[[Any, Any], Any]) -> tuple[Any, Any, torch.Tensor, Any]:
        model, state, y, after = pending(name)
        with pytest.raises(RuntimeError, match=r"backward has not run: run it, or undo the pass with state\.rollback\(\)"):
            use(model, state)
        return model, state, y, after

    def test_run_it(self, name, use):
        model, state, y, _ = self.refused(name, use)
        y.sum().backward()
        use(model, state)

    def test_undo_the_pass(self, name, use):
        model, state, _, after = self.refused(name, use)
        after.rollback()
        use(model, state)

    def test_make_two_states(self, name, use):
        model, _, y, _ = self.refused(name, use)
        use(model, model.initial_state(2))
        y.sum().backward()


@sparse
def test_a_pass_without_backward_runs_under_no_grad(name):
    model = make(name)
    state = model.initial_state(2)
    with torch.no_grad():
        _, state = model(X, state)
        model(X, state)


@sparse
class TestAStaleState:
    """Use the state that the last call returned, after backward its `state.detach()`; where there is none, one of `initial_state`."""

    def test_after_inference(self, name):
        model = make(name)
        state = model.initial_state(2)
        with torch.no_grad():
            _, last = model(X, state)
            with pytest.raises(RuntimeError, match=r"stale.* Use the state that the last call returned"):
                model(X, state)
            model(X, last)

    def test_after_backward(self, name):
        model, _, y, after = pending(name)
        y.sum().backward()
        with pytest.raises(RuntimeError, match=r"stale.* after backward its state\.detach\(\).* make one with initial_state"):
            model(X, after)
        model(X, after.detach())[0].sum().backward()
        model(X, model.initial_state(2))


@sparse
def test_a_backward_that_ran_or_was_undone_runs_again_with_the_model(name):
    for use in (lambda y, after: y.sum().backward(retain_graph=True), lambda y, after: after.rollback()):
        model, state, y, after = pending(name)
        use(y, after)
        with pytest.raises(RuntimeError, match="Run the model again, and its backward once"):
            y.sum().backward()
        model(X, state)[0].sum().backward()


@sparse
def test_activation_checkpointing(name):
    """Call the model outside of the checkpointed function, or give `checkpoint` `use_reentrant=True`."""
    model, after, x = make(name), torch.nn.Tanh(), X.clone().requires_grad_()
    state = model.initial_state(2, fill="full")

    def function(x: torch.Tensor) -> torch.Tensor:
        return after(model(x, state)[0])

    loss = checkpoint(function, x, use_reentrant=False).sum()
    with pytest.raises(RuntimeError, match=r"outside of the checkpointed function .* or give checkpoint use_reentrant=True"):
        loss.backward()
    checkpoint(after, model(x, state)[0], use_reentrant=False).sum().backward()
    checkpoint(function, x, use_reentrant=True).sum().backward()


@pytest.mark.parametrize("name", MODELS)
def test_a_state_of_another_batch_or_kind_is_replaced_by_one_of_initial_state(name):
    model = make(name)
    for bad in (model.initial_state(3), 7):
        with pytest.raises(ValueError, match="initial_state"):
            model(X, bad)
    model(X, model.initial_state(2))


def test_ops():
    """`LruRing.reserve` makes room; use `LshTables.empty`; call it under `torch.no_grad()`, or pass `tensor.detach()`."""
    ring = ops.LruRing(1, 4)
    touch = torch.ops.mann_bench.lru_touch
    with pytest.raises(ValueError, match=r"LruRing\.reserve makes room"):
        touch(ring.last, ring.queue, torch.tensor([[1, 2]]), ring.tail)
    ring.reserve(2)
    touch(ring.last, ring.queue, torch.tensor([[1, 2]]), ring.tail)

    memory = torch.randn(1, 40, 8)
    tables = LshTables.empty(1, 40, 8, LshSizes(2, 3, 8, 4, 8), torch.float32, "cpu")
    tables.buckets = tables.buckets[:, :, :5].contiguous()
    with pytest.raises(ValueError, match=r"use LshTables\.empty"):
        ops.lsh_fill(tables, memory, 40)
    ops.lsh_fill(LshTables.empty(1, 40, 8, LshSizes(2, 3, 8, 4, 8), torch.float32, "cpu"), memory, 40)

    rows, weights, values = torch.tensor([[[1]]]), torch.ones(1, 1, 1, requires_grad=True), torch.ones(1, 1, 8)
    arguments = (memory, row_norms(memory), rows)
    with pytest.raises(ValueError, match=r"call it under torch\.no_grad\(\), or pass tensor\.detach\(\)"):
        ops.sparse_write(*arguments, weights, values, torch.tensor([[1]]))
    with torch.no_grad():
        ops.sparse_write(*arguments, weights, values, torch.tensor([[1]]))
    ops.sparse_write(*arguments, weights.detach(), values, torch.tensor([[1]]))
