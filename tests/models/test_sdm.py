"""SDM: equal to its equations with autograd through new banks, with one bank that is restored to the bit."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mann_bench.kernels.native import build
from mann_bench.kernels.sequence.slot_steps import BankSteps
from mann_bench.models import SDM, DeltaNet
from mann_bench.models.slots.passes import RowsWritten
from tests.support.golden_sdm import golden_sdm
from tests.support.tape import saved_bytes

SIZES: dict[str, Any] = {"input_size": 4, "output_size": 3, "hidden": 5, "slots": 9, "word_size": 4, "heads": 2, "reads": 3}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"controller": "lstm", "gate": True},
    {"weights": "l2", "decay": "weighted", "norm": True, "writes": 1},
    {"slots": 12, "factors": "2x6", "scale": 0.5, "start": "learned"},
    {"slots": 8, "factors": 3, "start": "learned", "sparse": False, "controller": "lstm"},
]


@pytest.fixture(scope="module", params=["torch", "native"], autouse=True)
def kernels(request):
    """All of this on both kinds of kernels."""
    SIZES["kernels"] = request.param
    if request.param == "native" and (reason := build.why_not()):
        pytest.skip(f"no native kernels: {reason}")


def make(**options: Any) -> Any:
    model: Any = SDM(**{**SIZES, **options}).double()
    for name, parameter in model.named_parameters():
        if name not in ("gates.log_decay", "gates.step_bias"):
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def sequence(steps: int = 9, batch: int = 2) -> Tensor:
    return torch.randn(steps, batch, 4, dtype=torch.float64, requires_grad=True)


def dense(gradients: Any) -> list[Tensor]:
    return [gradient.to_dense() if gradient.is_sparse else gradient for gradient in gradients]


@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_the_equations(options, fill):
    model, x = make(**options), sequence(7)
    learned = model.start is not None and fill == "empty"
    state = model.initial_state(2, fill=fill, seed=3)
    start = state.memory.memory.clone()
    tensors = [x, *(parameter for name, parameter in model.named_parameters() if learned or name != "start")]
    given_start = model.start.expand(2, -1, -1, -1) if learned else start
    expected, bank = golden_sdm(model, x, given_start)
    weight = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weight).sum(), tensors)
    y, after = model(x, state)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(after.memory.memory, bank, rtol=0, atol=1e-12)
    for got, gradient in zip(dense(torch.autograd.grad((y * weight).sum(), tensors)), wanted, strict=True):
        torch.testing.assert_close(got, gradient, rtol=1e-9, atol=1e-11)
    assert torch.equal(state.memory.memory, start)


class Anew(torch.autograd.Function):
    """A function that is computed anew in each backward: a pass has one, and gradcheck runs several."""

    @staticmethod
    def forward(ctx: Any, function: Any, *values: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*values)
        result: Tensor = function(*values)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values = [value.detach().requires_grad_() for value in ctx.saved_tensors]
        with torch.enable_grad():
            return None, *torch.autograd.grad(ctx.function(*values), values, gradient)


def test_gradcheck():
    model = make(slots=4, heads=1, word_size=2, reads=2)
    names = [name for name, _ in model.named_parameters()]

    def outputs(x: Tensor, *values: Tensor) -> Tensor:
        state = model.initial_state(1, fill="full")
        y: Tensor = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x, state))[0]
        return y

    assert torch.autograd.gradcheck(lambda *values: Anew.apply(outputs, *values), (sequence(3, 1), *model.parameters()))


def test_dense_limit_is_the_gated_delta_rule():
    """One factor, all slots read and written, weights of unit length, zero start."""
    model, x = make(slots=6, factors=1, reads=6, weights="l2"), sequence(12)
    rule = DeltaNet(input_size=4, output_size=3, word_size=4, heads=2, key_size=6).double()
    rule.load_state_dict(model.state_dict())
    y, after = model(x, model.initial_state(2))
    expected, end = rule(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(after.memory.memory, end.memory.memory, rtol=0, atol=1e-12)
    wanted = torch.autograd.grad(expected.square().sum(), [x, *rule.parameters()])
    for got, gradient in zip(torch.autograd.grad(y.square().sum(), [x, *model.parameters()]), wanted, strict=True):
        torch.testing.assert_close(got, gradient, rtol=1e-9, atol=1e-11)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.sampled_from(["train", "infer", "reset", "rollback", "abandon"]), min_size=1, max_size=6),
    st.sampled_from(["empty", "full"]),
    st.integers(0, 9),
)
def test_backward_and_rollback_restore_every_bit(events, fill, seed):
    """Any sequence of passes, with resets and passes without gradients between: all of it is taken back, and made again to the bit."""
    torch.manual_seed(seed)
    model = SDM(**SIZES)
    state = model.initial_state(2, fill=fill)
    first, before, losses = state, state.memory.memory.clone(), []
    y, state = model(torch.randn(2, 2, 4), state)
    losses.append(y.sum())
    after = state.memory.memory.clone()
    for event in events:
        if event == "train":
            y, state = model(torch.randn(3, 2, 4), state, [3, 1])
            losses.append(y.sum())
        elif event == "infer":
            with torch.no_grad():
                _, state = model(torch.randn(2, 2, 4), state)
        elif event == "reset":
            state = model.reset_state(state, [1], fill=fill)
        elif event == "abandon":
            model(torch.randn(2, 2, 4), state)
            continue
        after = state.memory.memory.clone()
    if "rollback" in events:
        state.rollback()
        assert torch.equal(before, first.memory.memory)
        return
    torch.stack(losses).sum().backward()
    assert torch.equal(before, first.memory.memory)
    assert torch.equal(after, state.detach().memory.memory)


def test_passes_of_a_chain_have_the_gradients_of_one():
    for options in ({}, {"controller": "lstm", "start": "learned"}):
        model, x = make(**options), sequence(11)
        wanted_of = [x, *model.parameters()]
        whole = model.initial_state(2)
        expected, end = model(x, whole)
        wanted = dense(torch.autograd.grad(expected.square().sum(), wanted_of))
        state, parts = model.initial_state(2), []
        for part in x.split(4):
            y, state = model(part, state)
            parts.append(y)
        got = dense(torch.autograd.grad(torch.cat(parts).square().sum(), wanted_of))
        for a, b in zip(got, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert torch.equal(end.detach().memory.memory, state.detach().memory.memory)


def test_a_pass_in_the_middle_is_not_taken_back_before_those_after_it():
    model, x = make(), sequence()
    first, state = model(x, model.initial_state(2))
    second, state = model(x, state)
    with pytest.raises(RuntimeError, match="backward out of order"):
        first.sum().backward()
    second.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward ran already"):
        second.sum().backward()
    with pytest.raises(RuntimeError, match="stale"):
        model(x, state)


class TestALearnedStart:
    """A parameter that each bank is a copy of."""

    def test_gradient_of_rows_touched_by_several_passes_and_elements(self):
        """Also of one that a reset has begin anew; a detached state has none."""
        model, x = make(start="learned", slots=16), sequence(4)
        plain = make(start="learned", slots=16, sparse=False)
        plain.load_state_dict(model.state_dict())
        found = []
        for each in (model, plain):
            y, state = each(x, each.initial_state(2))
            z, after = each(x, each.reset_state(state, [1]))
            (y.square().sum() + z.square().sum()).backward()
            found.append(each.start.grad)
            before = each.start.grad.clone()
            each(x, after.detach())[0].sum().backward()
            assert torch.equal(dense([before])[0], dense([each.start.grad])[0])
        assert (found[0].is_sparse, found[1].is_sparse) == (True, False)
        torch.testing.assert_close(found[0].to_dense(), found[1])
        # the reset element's second pass begins where its first did
        apart = make(start="learned", slots=16, sparse=False)
        apart.load_state_dict(model.state_dict())
        y, state = apart(x, apart.initial_state(2))
        fresh, _ = apart(x[:, 1:], apart.initial_state(1))
        going_on, _ = apart(x, state)
        (y.square().sum() + fresh.square().sum() + going_on[:, 0].square().sum()).backward()
        torch.testing.assert_close(apart.start.grad, found[1], rtol=1e-10, atol=1e-12)

    def test_a_state_from_before_a_training_step_is_refused(self):
        model, x = make(start="learned"), sequence()
        state = model.initial_state(2)
        model(x, state)[0].sum().backward()
        with torch.no_grad():
            model.start += 1
        with pytest.raises(RuntimeError, match="the learned start has changed since this state was made"):
            model(x, state)
        y, _ = model(x, model.initial_state(2))
        y.sum().backward()


def kept_bytes(write: RowsWritten | BankSteps) -> int:
    """Of the rows overwritten."""
    if isinstance(write, RowsWritten):
        return sum(part.nbytes for part in write.kept if part is not None)
    buffers = sorted((first_byte, name) for name, first_byte in write.plan.blocks["tape"].buffers)
    ends = [*(first_byte for first_byte, _ in buffers[1:]), write.tape.nbytes]
    names = ("delta_old_rows", "rounded_rows", "rounded_largest")
    return sum(end - first_byte for (first_byte, name), end in zip(buffers, ends, strict=True) if name in names)


@pytest.mark.parametrize(("kind", "share", "error"), [("bfloat16", 1 / 2, 2**-8), ("int8", 9 / 32, 1 / 254)])
def test_rounded_snapshots(kind, share, error):
    """In fewer bytes; rows come back within the stated error and gradients near the exact ones; a second pass rounds nothing further."""
    sizes = {**SIZES, "word_size": 32, "slots": 16}
    exact, rounded = SDM(**sizes), SDM(**sizes, snapshot=kind)
    rounded.load_state_dict(exact.state_dict())
    x, found = torch.randn(8, 2, 4), []
    for model in (exact, rounded):
        state = model.initial_state(2, fill="full")
        before = state.memory.memory.clone()
        y, after = model(x, state)
        kept: Any = after.memory.rows.history.standing[0]
        bytes_of_rows = sum(map(kept_bytes, kept.writes))
        gradients = torch.autograd.grad(y.square().sum(), list(model.parameters()))
        found.append((y, bytes_of_rows, gradients, state.memory.memory.clone()))
    (y, full_bytes, wanted, restored), (same_y, few_bytes, got, near) = found
    assert torch.equal(y, same_y)
    assert torch.equal(restored, before)
    assert few_bytes == share * full_bytes
    difference, largest = (near - before).abs(), before.abs()
    assert difference.max() > 0
    assert bool((difference <= 1.0001 * error * (largest if kind == "bfloat16" else largest.amax(-1, keepdim=True))).all())
    for a, b in zip(got, wanted, strict=True):
        assert (a - b).norm() <= 0.02 * b.norm() + 1e-6
    model(x, state)[0].sum().backward()
    assert torch.equal(state.memory.memory, near)
    empty = rounded.initial_state(2)
    rounded(x, empty)[0].sum().backward()
    assert not empty.memory.memory.any()


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
@pytest.mark.parametrize("options", [{}, {"controller": "lstm", "writes": 5}, {"word_size": 1, "heads": 1}, {"decay": "weighted"}], ids=str)
def test_rounded_rows_give_the_same_gradients_on_all_kernels(options, kind):
    """In a padded batch too: an element that has ended keeps its rows to the bit. Made again, the bank is the same on all."""
    fast, plain = (make(**options, snapshot=kind) for _ in range(2))
    plain.kernels = "torch"
    plain.load_state_dict(fast.state_dict())
    x, found = sequence(11, 3), []
    for model in (fast, plain):
        state = model.initial_state(3, fill="full", seed=2)
        untouched = state.memory.memory[1].clone()
        y, middle = model(x, state, [11, 0, 5])
        z, after = model(x, middle, [3, 0, 11])
        gradients = torch.autograd.grad(y.square().sum() + z.square().sum(), [x, *model.parameters()])
        restored = state.memory.memory.clone()
        assert torch.equal(restored[1], untouched)
        found.append([y, z, restored, after.detach().memory.memory, *gradients])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")
@pytest.mark.parametrize("remedy", ["backward", "detach"])
def test_a_chain_over_two_kinds_of_kernels_names_what_to_do(remedy):
    model, x = make(), sequence()
    model.kernels = "native"
    y, after = model(x, model.initial_state(2))
    model.kernels = "torch"
    with pytest.raises(RuntimeError, match=r"other kernels .* run the backward .* or cut the history"):
        model(x, after)
    if remedy == "backward":
        y.sum().backward()
    z, _ = model(x, after.detach())
    z.sum().backward()


@pytest.mark.parametrize("snapshot", ["exact", "bfloat16", "int8"])
@pytest.mark.parametrize("controller", ["none", "lstm"])
def test_tape_does_not_grow_with_the_slots(controller, snapshot):
    kept = []
    for slots in (64, 4096):
        model = SDM(**{**SIZES, "slots": slots, "controller": controller, "snapshot": snapshot})
        with saved_bytes() as storages:
            y, after = model(torch.randn(20, 1, 4), model.initial_state(1))
        current: Any = after.memory.rows.history.standing[0]
        for write in current.writes:
            parts = [write.tape] if isinstance(write, BankSteps) else [write.rows, *(part for part in write.kept if part is not None)]
            storages |= {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts}
        for rows in getattr(current, "accessed", []):  # of a pass in torch
            storages[rows.untyped_storage().data_ptr()] = rows.untyped_storage().nbytes()
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        kept.append(sum(size for address, size in storages.items() if address not in weights))
        predicted = model.memory_bytes(1, 20, "train")["tape"]
        assert predicted == pytest.approx(kept[-1], rel=0.35)
        y.sum().backward()
    assert kept[0] == kept[1]


def test_prediction_of_bytes():
    model: Any = SDM(**{**SIZES, "slots": 4096, "start": "learned"})
    state = model.initial_state(3)
    prediction = model.memory_bytes(3, 10, "train")
    assert prediction["state"] == state.size_bytes
    assert prediction["memory"] == model.start.nbytes
    assert prediction["parameters"] == sum(parameter.nbytes for parameter in model.parameters()) - model.start.nbytes
    model(torch.randn(10, 3, 4), state)[0].sum().backward()
    gradient = model.start.grad
    rest = sum(parameter.grad.nbytes for name, parameter in model.named_parameters() if name != "start")
    assert rest < prediction["gradients"] <= rest + 10 * 3 * 2 * 6 * (4 * 4 + 16)
    assert gradient.values().nbytes + gradient.indices().nbytes <= prediction["gradients"] - rest


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("slots", 1000, "slots: expected a perfect square for product keys of 2 factors, as 961 or 1024, got 1000"),
        ("reads", 10, "reads: expected at most slots = 9 a head, got 10"),
        ("writes", 0, "writes: expected a whole number >= 1, got 0"),
        ("controller", "gru", "controller: expected one of none, lstm, got 'gru'"),
        ("weights", "relu", "weights: expected one of softmax, l2"),
        ("decay", "none", "decay: expected one of plain, weighted"),
        ("start", "random", "start: expected one of zero, learned"),
        ("snapshot", "fp8", "snapshot: expected one of exact, bfloat16, int8, got 'fp8'"),
        ("kernels", "fortran", "kernels: expected one of auto, native, torch"),
    ],
)
def test_bad_arguments(argument, value, message):
    with pytest.raises(ValueError, match=message):
        make(**{argument: value})


def test_native_kernels_that_cannot_run_are_told(monkeypatch):
    model = make(kernels="native")
    assert (model.backend, model.fallback) == ({"kernels": "native"}, None)
    monkeypatch.setattr(build, "why_not", lambda *_, **__: "no compiler")
    assert (model.backend, model.fallback) == ({"kernels": "torch"}, "no compiler")
    with pytest.warns(RuntimeWarning, match="kernels='native' runs as 'torch': no compiler"):
        model(sequence())
    with pytest.raises(ValueError, match="fill: expected 'empty', as this state began, got 'full'"):
        model.reset_state(model.initial_state(1), [0], fill="full")
