"""Several passes over one memory, one backward: gradients of one pass over the joined sequence, memory restored, order checked."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mann_bench.models import SAM
from tests.support.models import MODELS, SPARSE, make
from tests.support.sparse_states import choices, in_place

sparse = pytest.mark.parametrize("name", SPARSE)
OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {"slots": 11},
    "lsh": {"slots": 40, "index": "lsh"},
    "live": {"slots": 40, "index": "live"},
    "gated, one writer": {"slots": 9, "erase": "gated", "write_heads": 1},
}


COPIES: dict[str, Callable[[Any], Any]] = {
    "deep": copy.deepcopy,
    "slice": lambda state: state[:],
    "move": lambda state: state.to("cpu"),
}


def run(model: Any, x: Tensor, state: Any, sizes: list[int]) -> tuple[list[Tensor], list[Any]]:
    """A chain of passes; returns outputs and states of each."""
    outputs, states = [], []
    for part in x.split(sizes):
        y, state = model(part, state)
        outputs.append(y)
        states.append(state)
    return outputs, states


def sequence(steps: int) -> Tensor:
    return torch.randn(steps, 2, 4, dtype=torch.float64, requires_grad=True)


def same(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, others[name]) for name, tensor in some.items())


@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize("sizes", [[5, 5, 3], [1] * 13, [12, 1]], ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@sparse
def test_gradients_are_those_of_one_pass(name, options, sizes, fill):
    model, x = make(name, **options), sequence(13)
    weight = torch.randn(13, 2, 3, dtype=torch.float64)
    wanted_of = [x, *model.parameters()]
    whole = model.initial_state(2, fill=fill)
    expected, end = model(x, whole)
    ends = in_place(end), choices(end)
    wanted = torch.autograd.grad((expected * weight).sum() + end.controller.cell.sum(), wanted_of)

    state = model.initial_state(2, fill=fill)
    before = in_place(state)
    outputs, states = run(model, x, state, sizes)
    assert (same(ends[0], in_place(state)), choices(states[-1])) == (True, ends[1])
    got = torch.autograd.grad((torch.cat(outputs) * weight).sum() + states[-1].controller.cell.sum(), wanted_of)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert same(before, in_place(state))
    for after in states:  # the memory goes forward again, pass by pass
        after = after.detach()
    assert same(ends[0], in_place(after))
    model(x, after)[0].sum().backward()


def closed_loop(model: Any) -> Tensor:
    """A loss of six passes, each input made from the output before."""
    first = torch.linspace(-1, 1, 8, dtype=torch.float64).view(1, 2, 4)
    x, state, total = first, model.initial_state(2, fill="full"), torch.zeros((), dtype=torch.float64)
    for number in range(6):
        y, state = model(x, state)
        total = total + (number + 1) * y.square().sum()
        x = torch.cat([y, first[..., :1]], dim=-1).tanh()
    return total


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith(("lstm", "sdnc"))])
def test_closed_loop_equals_finite_differences(name):
    """Steps are too small to change which rows are read. SDNC's links are constants for the gradient: the next test is for it."""
    model = make(name)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(closed_loop(model), parameters)
    directions, step, ends = [torch.randn_like(parameter) for parameter in parameters], 1e-6, []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += sign * step * direction
        ends.append(closed_loop(model).item())
    slope = (ends[0] - ends[1]) / (2 * step)
    assert slope == pytest.approx(sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True)), rel=1e-5)


@pytest.mark.parametrize("name", ["sam", "sdnc"])
def test_closed_loop_on_both_kinds_of_kernels(name):
    plain, fast = make(name), make(f"{name}-native")
    fast.load_state_dict(plain.state_dict())
    gradients = [torch.autograd.grad(closed_loop(model), list(model.parameters())) for model in (plain, fast)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@sparse
def test_a_detached_state_cuts_the_gradient_of_the_memory(name):
    """One backward of several truncated chunks is the sum of their own."""
    model, x = make(name), sequence(12)
    parameters = list(model.parameters())
    losses, state = [], model.initial_state(2, fill="full")
    for part in x.split(4):
        y, state = model(part, state)
        losses.append(y.square().sum())
        state = state.detach()
    together = torch.autograd.grad(torch.stack(losses).sum(), parameters)
    state, apart = model.initial_state(2, fill="full"), [torch.zeros_like(parameter) for parameter in parameters]
    for part in x.split(4):
        y, state = model(part, state)
        for total, gradient in zip(apart, torch.autograd.grad(y.square().sum(), parameters), strict=True):
            total += gradient
        state = state.detach()
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@sparse
class TestOrder:
    """Passes are taken back from the last to the first."""

    def chain(self, name: str) -> tuple[Any, Any, Tensor, Tensor, Any]:
        self.model, self.x = make(name), sequence(8)
        self.state = self.model.initial_state(2, fill="full")
        self.before = in_place(self.state)
        (first, second), (middle, _) = run(self.model, self.x, self.state, [4, 4])
        return self.model, self.state, first, second, middle

    @pytest.mark.parametrize("remedy", ["add the losses up", "the later first", "rollback"])
    def test_the_first_backward_before_the_last_names_what_to_do(self, name, remedy):
        model, state, first, second, _ = self.chain(name)
        with pytest.raises(RuntimeError, match=r"out of order.* Add the losses up .*, run the later backward first, or .* state\.rollback"):
            first.sum().backward(retain_graph=True)
        model.zero_grad()
        if remedy == "add the losses up":
            (first.sum() + second.sum()).backward()
        elif remedy == "the later first":
            torch.autograd.grad(second.sum(), [self.x], retain_graph=True)
        else:
            state.rollback()
            model(self.x, state)[0].sum().backward()
        assert same(self.before, in_place(state))

    def test_detached_chunks_one_by_one(self, name):
        model, x = make(name), sequence(8)
        state = start = model.initial_state(2, fill="full")
        before, outputs = in_place(start), []
        for part in x.split(4):
            y, state = model(part, state)
            outputs.append(y)
            state = state.detach()
        outputs[1].sum().backward()
        outputs[0].sum().backward()
        assert same(before, in_place(start))
        end = model(x[4:], model(x[:4], model.initial_state(2, fill="full"))[1])[1]
        assert same(in_place(end), in_place(state.detach()))

    def test_a_pass_that_is_left_out(self, name):
        """While its output lives it is asked for; once that is gone, no backward can come, and the rest has its own gradients."""
        model, state, first, second, _ = self.chain(name)
        wanted = torch.autograd.grad(model(self.x[:4], model.initial_state(2, fill="full"))[0].sum(), [*model.parameters()])
        with pytest.raises(RuntimeError, match="out of order"):
            first.sum().backward(retain_graph=True)
        del second
        model.zero_grad()
        first.sum().backward()
        assert all(torch.equal(parameter.grad, gradient) for parameter, gradient in zip(model.parameters(), wanted, strict=True))
        assert same(self.before, in_place(state))

    def test_a_gradient_of_another_backward_is_not_taken_for_its_own(self, name):
        model, state, first, second, _ = self.chain(name)
        wanted = torch.autograd.grad(model(self.x[:4], model.initial_state(2, fill="full"))[0].sum(), [*model.parameters()])
        part = self.x[4:].detach().requires_grad_()
        state.rollback()
        first, middle = model(self.x[:4], state)
        second, _ = model(part, middle)
        torch.autograd.grad(second.sum(), [part], retain_graph=True)  # goes through the second pass alone
        got = torch.autograd.grad(first.sum(), [*model.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))

    def test_two_passes_from_one_state(self, name):
        model, state, *_ = self.chain(name)
        with pytest.raises(RuntimeError, match="for two passes at once make two states"):
            model(self.x, state)


@sparse
class TestWithoutBackward:
    """Passes whose graph is gone, or that never had one."""

    def test_a_pass_whose_graph_was_dropped_is_undone_when_its_state_is_used_again(self, name):
        model, x = make(name), sequence(4)
        state = model.initial_state(2, fill="full")
        before = in_place(state)

        def skipped() -> None:
            y, _ = model(x, state)
            assert y.sum().isfinite()

        skipped()
        y, _ = model(x, state)
        y.sum().backward()
        assert same(before, in_place(state))

    def test_a_closed_loop_whose_graph_was_dropped(self, name):
        """No pass holds the graph of its input, which is that of the pass before."""
        model, first = make(name), sequence(1)
        state = model.initial_state(2, fill="full")
        before = in_place(state)

        def skipped() -> None:
            x, after = first, state
            for _ in range(3):
                y, after = model(x, after)
                x = torch.cat([y, y[..., :1]], dim=-1)

        skipped()
        model(first, state)[0].sum().backward()
        assert same(before, in_place(state))

    def test_a_loss_that_is_skipped_while_its_output_lives(self, name):
        """The remedy of the error, on any state of the chain and on any model."""
        for back in (lambda first, last: first.rollback(), lambda first, last: last.rollback()):
            model, x = make(name), sequence(4)
            state = model.initial_state(2, fill="full")
            _y, after = model(x, state)
            with pytest.raises(RuntimeError, match=r"undo the pass with state\.rollback\(\)"):
                model(x, state)
            back(state, after)
            model(x, state)[0].sum().backward()

    def test_a_forgotten_no_grad_keeps_a_bounded_number_of_passes(self, name):
        model, x = make(name), sequence(4)
        state, reference = (model.initial_state(2, fill="full") for _ in range(2))
        for _ in range(5):
            y, state = model(x, state.detach())
            with torch.no_grad():
                expected, reference = model(x, reference)
            assert torch.equal(y, expected)
            assert len(state.memory.rows.history.standing) <= 2
        y.sum().backward()

    def test_inference_between_passes_that_are_due(self, name):
        model, x = make(name), sequence(4)
        state = model.initial_state(2, fill="full")
        before = in_place(state)
        wanted = torch.autograd.grad(model(x, state)[0].sum(), [*model.parameters()])
        y, after = model(x, state)
        with torch.no_grad():
            z, last = model(x, after)
            expected, _ = model(x, model(x, model.initial_state(2, fill="full"))[1])
        assert torch.equal(z, expected)
        ends = in_place(last)
        assert all(torch.equal(a, b) for a, b in zip(torch.autograd.grad(y.sum(), [*model.parameters()]), wanted, strict=True))
        assert same(before, in_place(state))
        assert same(ends, in_place(last.detach()))

    @pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
    @pytest.mark.parametrize("of", ["before", "after"])
    def test_a_copy_beside_a_dropped_pass_is_of_its_own_state(self, name, of, copied):
        model, x = make(name), sequence(4)
        state = model.initial_state(2, fill="full")
        after = model(x, state)[1].detach()
        chosen = state if of == "before" else after
        other = copied(chosen)
        assert torch.equal(model(x, other)[0], model(x, chosen)[0])


def test_models_without_a_shared_memory_have_nothing_to_undo():
    for name in ("lstm", "ntm"):
        model = make(name)
        y, after = model(torch.randn(3, 2, 4, dtype=torch.float64))
        after.rollback()
        y.sum().backward()


@pytest.mark.parametrize("kernels", ["torch", "native"])
def test_a_long_chain_leaves_the_queue_of_last_accesses_as_it_is(kernels):
    """Between passes alone it is compacted; within a chain the logs of the passes name its places."""
    model = SAM(input_size=4, output_size=3, hidden=5, slots=4, word_size=4, heads=2, reads=2, kernels=kernels).double()
    x = sequence(300)
    state = model.initial_state(2, fill="full")
    with torch.no_grad():
        _, state = model(x[:80], state)
    before, apart = in_place(state), copy.deepcopy(state)
    wanted = torch.autograd.grad(model(x, apart)[0].sum(), [x, *model.parameters()])
    ring = state.memory.rows.ring
    outputs, states = run(model, x, state, [100] * 3)
    assert ring.tail > 3 * ring.rows + 1024
    for a, b in zip(torch.autograd.grad(torch.cat(outputs).sum(), [x, *model.parameters()]), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert same(before, in_place(state))
    states[-1].detach()
    _, after = model(x[:1], states[-1].detach())
    assert ring.tail < 1024
    after.rollback()


@pytest.mark.parametrize("storage", [None, torch.bfloat16])
@pytest.mark.parametrize("name", ["sam", "sdnc"])
@pytest.mark.parametrize("kernels", ["torch", "native"])
def test_restores_to_the_bit_in_float32(name, kernels, storage):
    model = make(name, kernels=kernels, storage=storage).float()
    state = model.initial_state(2, fill="full")
    before = in_place(state)
    outputs, _ = run(model, torch.randn(20, 2, 4), state, [7, 7, 6])
    torch.cat(outputs).square().sum().backward()
    assert same(before, in_place(state))
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("remedy", ["torch", "backward", "detach"])
def test_a_chain_over_two_kinds_of_kernels_names_what_to_do(remedy):
    model, x = make("sam-native", kernels="auto"), sequence(4)
    state = model.initial_state(2, fill="full")
    model.kernels = "torch" if remedy == "torch" else "auto"
    y, after = model(x, state)
    handle = model.interface.register_forward_hook(lambda *_: None) if remedy != "torch" else None
    if handle:
        with pytest.raises(RuntimeError, match=r"other kernels .* kernels='torch', run the backward .* or cut .* state\.detach\(\)"):
            model(x, after)
    if remedy == "backward":
        y.sum().backward()
        after = after.detach()
    elif remedy == "detach":
        after = after.detach()
    z, _ = model(x, after)
    (z.sum() if remedy == "backward" else y.sum() + z.sum()).backward()
