"""Steppers of SAM and SDNC: the same outputs, states and memory as calls of the model with one step each."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mann_bench.kernels.native import build
from mann_bench.models import SAM, SDNC, MANNState
from mann_bench.models.sparse.stepper import NativeStepper, Stepper

SIZES: dict[str, Any] = {"input_size": 3, "output_size": 2, "hidden": 7, "word_size": 5, "heads": 2, "reads": 3}
MODELS: dict[str, Callable[[], SAM]] = {
    "sam": lambda: SAM(**SIZES, slots=11),
    "sam-one-writer": lambda: SAM(**SIZES, slots=11, write_heads=1, erase="gated", strength=False),
    "sam-live": lambda: SAM(**SIZES, slots=31, index="live"),
    "sam-lsh": lambda: SAM(**SIZES, slots=67, index="lsh"),
    "sam-bfloat16": lambda: SAM(**SIZES, slots=11, storage=torch.bfloat16),
    "sam-double": lambda: SAM(**SIZES, slots=11).double(),
    "sdnc": lambda: SDNC(**SIZES, slots=13, link_entries=3),
}
needs_kernels = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


def make(name: str) -> SAM:
    torch.manual_seed(0)
    return MODELS[name]()


def inputs(model: SAM, steps: int, batch: int) -> torch.Tensor:
    return torch.randn(steps, batch, 3, generator=torch.Generator().manual_seed(1)).to(model.output.weight.dtype)


def called(model: SAM, x: torch.Tensor, state: MANNState[Any]) -> tuple[torch.Tensor, MANNState[Any]]:
    """The outputs of calls with one step each, and the state after them."""
    outputs = []
    with torch.no_grad():
        for x_t in x:
            y, state = model(x_t[None], state)
            outputs.append(y[0])
    return torch.stack(outputs), state


def assert_same(state: MANNState[Any], expected: MANNState[Any]) -> None:
    rows, others = state.memory.rows, expected.memory.rows
    for own, other in zip(state.tensors(), expected.tensors(), strict=True):
        if own is rows.ring.queue:  # has room beyond its end
            own, other = (ring.queue[:, : ring.tail - ring.rows] for ring in (rows.ring, others.ring))
        assert torch.equal(own, other)
    assert torch.equal(rows.ring.order(), others.ring.order())
    assert (rows.ring.tail, rows.num_candidates, rows.counts) == (others.ring.tail, others.num_candidates, others.counts)


@needs_kernels
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize("name", MODELS)
def test_as_calls_of_the_model(name, fill, batch):
    model = make(name)
    x = inputs(model, 9, batch)
    expected, after = called(model, x, model.initial_state(batch, fill=fill))
    stepper = model.stepper(model.initial_state(batch, fill=fill))
    assert type(stepper) is NativeStepper
    assert torch.equal(torch.stack([stepper(x_t) for x_t in x]), expected)
    assert_same(stepper.state, after)
    assert torch.equal(called(model, x, stepper.state)[0], called(model, x, after)[0])


@needs_kernels
@pytest.mark.parametrize("name", ["sam", "sam-live", "sdnc"])
def test_over_more_steps_than_the_queue_of_the_ring_is_long(name):
    """It grows, and is compacted."""
    model = make(name)
    x = inputs(model, 400, 2)
    expected, after = called(model, x, model.initial_state(2))
    stepper = model.stepper(model.initial_state(2))
    assert torch.equal(torch.stack([stepper(x_t) for x_t in x]), expected)
    assert stepper.state.memory.rows.ring.start is not None
    assert_same(stepper.state, after)


@needs_kernels
@pytest.mark.parametrize("index", ["exact", "live"])
def test_where_several_threads_search(index):
    slots = 3 * 2**15
    model = SAM(**SIZES, slots=slots, index=index)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        states = [model.initial_state(1, fill="full") for _ in range(2)]
        x = inputs(model, 4, 1)
        expected, after = called(model, x, states[0])
        stepper = model.stepper(states[1])
        assert isinstance(stepper, NativeStepper)
        assert torch.equal(torch.stack([stepper(x_t) for x_t in x]), expected)
        assert stepper.repeated is not None
        assert stepper.repeated.packed.parts > 1
        assert_same(stepper.state, after)
    finally:
        torch.set_num_threads(threads)


@needs_kernels
def test_elements_with_different_numbers_of_candidates():
    model = SAM(**SIZES, slots=31, index="live")
    x, lengths = inputs(model, 6, 3), [1, 4, 2]
    states = []
    for _ in range(2):
        with torch.no_grad():
            states.append(model(x, model.initial_state(3), lengths)[1])
    expected, after = called(model, x, states[0])
    stepper = model.stepper(states[1])
    assert torch.equal(torch.stack([stepper(x_t) for x_t in x]), expected)
    assert after.memory.rows.counts is not None
    assert_same(stepper.state, after)


@needs_kernels
def test_states_on_the_way_stay_as_they_are_and_are_stale_after_the_next_step():
    model = make("sdnc")
    first = model.initial_state(2)
    stepper, x = model.stepper(first), inputs(model, 6, 2)
    given = first.controller.hidden.clone()
    for x_t in x[:3]:
        stepper(x_t)
    middle = stepper.state
    assert middle is stepper.state
    kept = [tensor.clone() for tensor in (middle.controller.hidden, middle.memory.index, middle.memory.weights)]
    for x_t in x[3:]:
        stepper(x_t)
    assert torch.equal(first.controller.hidden, given)
    for tensor, before in zip((middle.controller.hidden, middle.memory.index, middle.memory.weights), kept, strict=True):
        assert torch.equal(tensor, before)
    for old in (first, middle):
        with pytest.raises(RuntimeError, match="stale"):
            model(x, old)
    y, _ = model(x, stepper.state)
    with pytest.raises(RuntimeError, match="backward has not run"):
        stepper(x[0])
    y.sum().backward()  # takes the memory back to where the stepper left it
    assert bool(stepper(x[0]).isfinite().all())
    with torch.no_grad():
        model(x, stepper.state)
    with pytest.raises(RuntimeError, match="stale"):
        stepper(x[0])


@needs_kernels
def test_gradients_of_a_pass_from_its_state_are_those_from_a_state_of_calls():
    model = make("sam")
    x = inputs(model, 5, 2)
    stepper = model.stepper(model.initial_state(2))
    for x_t in x:
        stepper(x_t)
    _, after = called(model, x, model.initial_state(2))
    grads = [torch.autograd.grad(model(x, state)[0].square().sum(), [*model.parameters()]) for state in (stepper.state, after)]
    assert all(map(torch.equal, *grads))


@needs_kernels
def test_parameters_changed_in_place_are_seen():
    model = make("sam")
    x, states = inputs(model, 4, 1), [model.initial_state(1) for _ in range(2)]
    stepper = model.stepper(states[0])
    stepper(x[0])
    _, after = called(model, x[:1], states[1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    assert torch.equal(torch.stack([stepper(x_t) for x_t in x[1:]]), called(model, x[1:], after)[0])


@needs_kernels
def test_in_inference_mode_and_with_inputs_that_have_gaps():
    model = make("sam")
    x = inputs(model, 4, 2)
    expected, after = called(model, x, model.initial_state(2))
    with torch.inference_mode():
        stepper = model.stepper(model.initial_state(2))
        found = [stepper(x_t.t().contiguous().t()) for x_t in x]
    assert torch.equal(torch.stack(found), expected)
    assert_same(stepper.state, after)
    assert not stepper.state.controller.hidden.is_inference()


def test_an_input_that_does_not_fit_and_a_state_of_another_model_are_refused():
    model = make("sam")
    state = model.initial_state(2)
    stepper = model.stepper(state)
    if isinstance(stepper, NativeStepper):
        for x in (torch.zeros(2, 4), torch.zeros(1, 3), torch.zeros(2, 3, dtype=torch.float64), torch.zeros(1, 2, 3)):
            with pytest.raises(ValueError, match=r"x: expected \[2, 3\] torch.float32 on cpu, got "):
                stepper(x)
    with pytest.raises(ValueError, match="state"):
        model.stepper(SAM(**SIZES, slots=12).initial_state(2))
    with pytest.raises(ValueError, match="state: expected one made by initial_state"):
        model.stepper(None)  # type: ignore[arg-type]
    bad = copy.deepcopy(state)
    bad.memory.index.fill_(11)
    with pytest.raises(ValueError, match=r"state\.memory\.index: expected rows 0\.\.10"):
        model.stepper(bad)
    assert stepper(torch.zeros(2, 3)).shape == (2, 2)  # nothing has changed


def test_where_a_call_of_the_model_is_needed():
    """On torch; over the first elements of a memory; where a backward is due; for a large batch; with hooks."""
    torch.manual_seed(0)
    model = SAM(**SIZES, slots=11, kernels="torch")
    x = inputs(model, 4, 2)
    expected, after = called(model, x, model.initial_state(2))
    stepper = model.stepper(model.initial_state(2))
    assert type(stepper) is Stepper
    assert torch.equal(torch.stack([stepper(x_t) for x_t in x]), expected)
    assert_same(stepper.state, after)
    model = make("sam")
    large = model.initial_state(3)
    assert type(model.stepper(large.first(2))) is Stepper
    y, state = model(inputs(model, 4, 3), large)
    stepper = model.stepper(state)
    assert type(stepper) is Stepper
    assert stepper(torch.zeros(3, 3)).shape == (3, 2)
    y.sum().backward()  # undoes the step on top of it
    assert type(model.stepper(model.initial_state(64))) is Stepper
    model.register_forward_hook(lambda module, given, outputs: (outputs[0] + 1, outputs[1]))
    stepper = model.stepper(model.initial_state(2))
    assert torch.equal(stepper(x[0]), called(model, x[:1], model.initial_state(2))[0][0])
