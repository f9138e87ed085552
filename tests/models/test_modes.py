"""Modes of torch around a model: autocast, inference mode, frozen parameters, activation checkpointing, and passes that fail."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mann_bench.models.sparse import access
from tests.support.models import MODELS, SPARSE, make

models = pytest.mark.parametrize("name", MODELS)
sparse = pytest.mark.parametrize("name", SPARSE)


def memory_of(state: Any) -> list[Tensor]:
    """The tensors that a memory changes in place."""
    rows = state.memory.rows
    links = state.memory.links.tensors() if hasattr(state.memory, "links") else []
    return [
        t.clone() for t in (rows.memory, rows.norms, rows.ring.order(), torch.tensor(rows.num_candidates), *links, *rows.index.tensors())
    ]


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def gradients(model: Any) -> list[Tensor]:
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    return found


class TestAutocast:
    """A model computes in the type of its parameters."""

    @pytest.mark.parametrize("steps", [3, 65])  # native, with two elements: products inside the call, and around it
    @models
    def test_changes_no_number(self, name, steps):
        model, x = make(name).float(), torch.randn(steps, 2, 4)
        expected, _ = model(x, model.initial_state(2, fill="full"))
        expected.square().mean().backward()
        wanted = gradients(model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, state = model(x, model.initial_state(2, fill="full"))
            assert not any(t.dtype == torch.bfloat16 for t in (y, *state.tensors()))
        y.square().mean().backward()
        assert torch.equal(y, expected)
        assert same(gradients(model), wanted)

    @models
    def test_takes_what_another_layer_computed_in_lower_precision(self, name):
        model, before = make(name).float(), torch.nn.Linear(4, 4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            lower = before(torch.randn(3, 2, 4))
            assert lower.dtype == torch.bfloat16
            model(lower)[0].sum().backward()
        assert before.weight.grad is not None
        assert before.weight.grad.isfinite().all()
        with pytest.raises(ValueError, match=r"x: expected torch\.float32"):
            model(lower.detach())

    @pytest.mark.parametrize("steps", [3, 65])
    @models
    def test_backward_inside_of_it_is_near(self, name, steps):
        """Torch advises against it: autograd then computes in the lower precision."""
        model, x = make(name).float(), torch.randn(steps, 2, 4)
        model(x)[0].square().mean().backward()
        wanted = gradients(model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(x)[0].square().mean().backward()
        for got, expected in zip(gradients(model), wanted, strict=True):
            assert (got - expected).norm() < 0.1 * expected.norm()


class TestInferenceMode:
    """States made in inference mode are ordinary: they can be changed in place, continued and used in training."""

    @pytest.mark.parametrize("made", ["before", "inside", "moved inside", "cut inside"])
    @pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
    @models
    def test_a_state_goes_on(self, name, train, made):
        model, x = make(name), torch.randn(4, 2, 4, dtype=torch.float64)
        state = model.initial_state(2, fill="full") if made == "before" else None
        with torch.inference_mode():
            state = model.initial_state(2, fill="full") if state is None else state
            _, state = model(torch.randn_like(x), state)
            state = state.to("cpu") if made == "moved inside" else state[:] if made == "cut inside" else state
        assert not any(tensor.is_inference() for tensor in state.tensors())
        with torch.set_grad_enabled(train):
            y, state = model(x, state)
        if train:
            y.sum().backward()
            model(x, state.detach())[0].sum().backward()
            assert all(grad.isfinite().all() for grad in gradients(model))

    @models
    def test_changes_no_number(self, name):
        model, x = make(name), torch.randn(4, 2, 4, dtype=torch.float64)
        with torch.no_grad():
            expected, _ = model(x, model.initial_state(2, fill="full"))
        with torch.inference_mode():
            y, _ = model(x, model.initial_state(2, fill="full"))
        assert torch.equal(y, expected)
        assert not y.requires_grad


class TestFrozen:
    """A pass is recorded only if something needs its gradient."""

    @models
    def test_a_frozen_model_goes_on_with_gradients_on(self, name):
        model, x = make(name).requires_grad_(False), torch.randn(4, 2, 4, dtype=torch.float64)
        state, reference = (model.initial_state(2, fill="full") for _ in range(2))
        for _ in range(2):
            y, state = model(x, state)
            with torch.no_grad():
                expected, reference = model(x, reference)
            assert torch.equal(y, expected)
            assert not y.requires_grad

    @pytest.mark.parametrize("needs", ["x", "hidden", "cell", "reads", "weights", "controller", "interface", "output"])
    @sparse
    def test_anything_that_needs_a_gradient_gets_it(self, name, needs):
        model, x = make(name), torch.randn(4, 2, 4, dtype=torch.float64)
        model.requires_grad_(False)
        state = model.initial_state(2, fill="full")
        _, state = model(x, state)
        before = memory_of(state)
        if needs in ("controller", "interface", "output"):
            wanted = next(getattr(model, needs).requires_grad_().parameters())
        elif needs == "x":
            wanted = x.requires_grad_()
        else:
            wanted = getattr(state.memory if needs == "weights" else state.controller, needs).requires_grad_()
        y, _ = model(x, state)
        assert state.memory.rows.history.standing
        y.square().sum().backward()
        assert wanted.grad is not None
        assert wanted.grad.any()
        assert same(memory_of(state), before)

    @sparse
    def test_a_gradient_of_the_output_layer_alone_rolls_back(self, name):
        model, x = make(name), torch.randn(4, 2, 4, dtype=torch.float64)
        state = model.initial_state(2, fill="full")
        before = memory_of(state)
        y, after = model(x, state)
        torch.autograd.grad(y.sum(), [model.output.weight])
        assert same(memory_of(state), before)
        model(x, after.detach())[0].sum().backward()


class TestActivationCheckpointing:
    """`torch.utils.checkpoint` runs a function in forward and again in backward, but there is one memory."""

    def run(self, name: str, decoder: bool, reentrant: bool, shared: bool = True) -> tuple[Any, list[Tensor], list[Tensor]]:
        """A model between other layers; returns the memory's state, the memory before, and the gradients without checkpointing."""
        torch.manual_seed(0)
        self.model, encoder = make(name), torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh()).double()
        after = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh()).double() if decoder else torch.nn.Identity()
        x = torch.randn(6, 2, 4, dtype=torch.float64, requires_grad=True)
        state = self.model.initial_state(2, fill="full")
        before = memory_of(state)

        def function(x: Tensor) -> Tensor:
            return after(self.model(encoder(x), state if shared else self.model.initial_state(2, fill="full"))[0])

        function(x).square().sum().backward()
        expected = gradients(self.model)
        self.loss = checkpoint(function, x, use_reentrant=reentrant).square().sum()
        return state, before, expected

    @pytest.mark.parametrize("decoder", [False, True])
    @sparse
    def test_reentrant_is_right(self, name, decoder):
        state, before, expected = self.run(name, decoder, reentrant=True)
        assert same(memory_of(state), before)
        self.loss.backward()
        assert same(gradients(self.model), expected)
        assert same(memory_of(state), before)

    @pytest.mark.parametrize("decoder", [False, True])
    @sparse
    def test_not_reentrant_is_right_or_refused(self, name, decoder):
        """It is right where backward reaches the model before anything that was not saved."""
        state, before, expected = self.run(name, decoder, reentrant=False)
        if name.endswith("native") and not decoder:
            self.loss.backward()
            assert same(gradients(self.model), expected)
        else:
            with pytest.raises(RuntimeError, match=r"activation checkpointing \(torch.utils.checkpoint\)"):
                self.loss.backward()
        assert same(memory_of(state), before)
        assert not state.memory.rows.history.standing

    @pytest.mark.parametrize("reentrant", [False, True])
    @sparse
    def test_a_memory_of_its_own_is_right(self, name, reentrant):
        _, _, expected = self.run(name, decoder=True, reentrant=reentrant, shared=False)
        self.loss.backward()
        assert same(gradients(self.model), expected)


class TestFailure:
    """An exception half way through a pass."""

    @pytest.mark.parametrize("step", [0, 2])
    @pytest.mark.parametrize("name", ["sam", "sdnc"])
    def test_a_recorded_pass_is_rolled_back(self, name, step, monkeypatch):
        model, x = make(name), torch.randn(5, 2, 4, dtype=torch.float64)
        expected, _ = model(x, model.initial_state(2, fill="full"))
        state = model.initial_state(2, fill="full")
        before = memory_of(state)
        handle = self.fail_at(model.interface, step)
        with pytest.raises(KeyboardInterrupt):
            model(x, state)
        handle.remove()
        assert same(memory_of(state), before)
        y, _ = model(x, state)
        assert torch.equal(y, expected)

    @pytest.mark.parametrize("name", ["sam", "sdnc"])
    def test_in_any_part_of_a_step(self, name, monkeypatch):
        model, x = make(name), torch.randn(5, 2, 4, dtype=torch.float64)
        state = model.initial_state(2, fill="full")
        before = memory_of(state)
        for part in ("gather_rows", "sparse_write", "erase_survivors"):
            with monkeypatch.context() as patch:
                patch.setattr(access, part, Failing(getattr(access, part), after=3))
                with pytest.raises(MemoryError):
                    model(x, state)
            assert same(memory_of(state), before), part
        handle = self.fail_at(model.output, 0)
        with pytest.raises(KeyboardInterrupt):
            model(x, state)
        handle.remove()
        assert same(memory_of(state), before)
        model(x, state)[0].sum().backward()

    @pytest.mark.parametrize("name", ["sam", "sdnc"])
    def test_a_failed_inference_pass_is_reported(self, name):
        """A pass that is not recorded cannot be rolled back."""
        model, x = make(name), torch.randn(5, 2, 4, dtype=torch.float64)
        state = model.initial_state(2, fill="full")
        handle = self.fail_at(model.interface, 2)
        with torch.no_grad(), pytest.raises(KeyboardInterrupt):
            model(x, state)
        handle.remove()
        with pytest.raises(RuntimeError, match=r"failed half way.* make one with initial_state"):
            model(x, state)

    @staticmethod
    def fail_at(layer: torch.nn.Module, call: int) -> Any:
        """Interrupt a call of a layer."""
        calls = iter(range(call + 1))

        def hook(*_: Any) -> None:
            if next(calls) == call:
                raise KeyboardInterrupt

        return layer.register_forward_hook(hook)


class Failing:
    """A function that fails after some calls."""

    def __init__(self, function: Any, after: int) -> None:
        self.function, self.left = function, after

    def __call__(self, *arguments: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise MemoryError
        return self.function(*arguments)
