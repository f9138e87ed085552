"""The native sequences of NTM, DAM and DNC against the step-by-step reference: outputs, states and all gradients."""

import dataclasses
import functools
import platform
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mann_bench.kernels.native import build
from mann_bench.models import DAM, DNC, NTM, dense_native
from tests.models.test_native import poisoned, relative_error  # noqa: F401
from tests.support.native import assert_shapes, assert_sound_operators

SIZES: dict[str, Any] = {"input_size": 5, "output_size": 3, "hidden": 7, "word_size": 6, "slots": 13, "heads": 2}
MODELS: dict[str, Any] = {"ntm": NTM, "dam": DAM, "dnc": DNC}
OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "ones": {"input_size": 1, "output_size": 1, "hidden": 1, "word_size": 1, "slots": 2, "heads": 1},
    "word-of-32": {"word_size": 32, "hidden": 16, "heads": 1},
    "vectors-and-a-rest": {"word_size": 37, "hidden": 53, "slots": 61, "heads": 3},
    "several-chunks": {"slots": 2500, "word_size": 3},
    "several-groups-of-heads": {"slots": 40, "heads": 9},
}
OWN_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "ntm": {
        "writers": {"write_heads": 3},
        "more-writers-than-a-group": {"write_heads": 7, "heads": 5},
        "no-shift": {"shifts": 0},
        "shift-beyond-the-memory": {"shifts": 7, "slots": 5},
        "learned-start": {"learned_start": True},
    },
    "dam": {"one-writer": {"write_heads": 1}, "literal": {"strength": False}, "short-memory": {"discount": 0.3, "slots": 5}},
    "dnc": {"softplus": {"strength": "softplus"}, "several-link-chunks": {"slots": 150}},
}
CASES = [
    pytest.param(name, options, fill, id=f"{name}-{label}-{fill}")
    for name in MODELS
    for label, options in {**OPTIONS, **OWN_OPTIONS[name]}.items()
    for fill in (("full",) if name == "dnc" else ("empty", "full"))  # DNC: of rows of equal usage rounding chooses the first
    if (name, label) != ("dnc", "several-chunks")
]

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


def pair(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[Any, Any]:
    """The same model on native kernels and step by step, with weights so large that gates are not all near 0.5."""
    torch.manual_seed(0)
    fast, plain = (MODELS[name](**{**SIZES, **options, "kernels": kernels}).to(dtype) for kernels in ("native", "torch"))
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    fast.load_state_dict(plain.state_dict())
    assert (fast.backend, plain.backend) == ({"kernels": "native"}, {"kernels": "torch"})
    return fast, plain


def tensors_of(state: Any) -> dict[str, Tensor]:
    """The tensors of a state by name."""
    return {
        field.name: getattr(part, field.name)
        for part in (state.controller, state.memory)
        for field in dataclasses.fields(part)
        if isinstance(getattr(part, field.name), Tensor)
    }


def used_state(model: Any, batch: int, fill: str) -> Any:
    with torch.no_grad():
        return model(torch.randn(3, batch, model.input_size, dtype=model.output.weight.dtype), model.initial_state(batch, fill=fill))[1]


def run(call: Any, x: Tensor, start: Any, model: Any = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs, with the states after a pass, and gradients of a loss over all of them that carry one, from a state that needs gradients.

    Args:
        call: the model, or what calls it.
        model: the model that is called.
    """
    model = model or call
    state = start.map(lambda tensor: tensor.clone())
    leaves = {"x": x.clone().requires_grad_()}
    for part in (state.controller, state.memory):
        for name in tensors_of(state).keys() & vars(part).keys():
            leaves[name] = getattr(part, name).requires_grad_(not (isinstance(model, DAM) and name == "usage"))
    y, after = call(leaves["x"], state)
    outputs = {"y": y, **tensors_of(after)}
    generator = torch.Generator().manual_seed(5)
    parts = [value * torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype) for value in outputs.values()]
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad} | dict(model.named_parameters())
    found = torch.autograd.grad(sum(part.sum() for part in parts), list(wanted.values()), allow_unused=True)
    gradients = {name: grad for name, grad in zip(wanted, found, strict=True) if grad is not None}
    return {name: value.detach() for name, value in outputs.items()}, gradients


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert relative_error(got[name], value) < tolerance, name


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("name", "options", "fill"), CASES)
def test_equals_the_reference(name, options, fill):
    fast, plain = pair(name, **options)
    start, x = used_state(plain, 2, fill), torch.randn(9, 2, fast.input_size, dtype=torch.float64)
    for got, expected in zip(run(fast, x, start), run(plain, x, start), strict=True):
        assert_equal(got, expected, 1e-9)
    with torch.no_grad():
        y, after = fast(x, start)
        expected_y, expected_after = plain(x, start)
    assert relative_error(y, expected_y) < 1e-9
    assert_equal(tensors_of(after), tensors_of(expected_after), 1e-9)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("steps", [1, 33])
@pytest.mark.parametrize("name", MODELS)
def test_short_and_long_passes(name, steps):
    """A long one multiplies with transposed weights, and leaves the gradients of the weights to torch."""
    fast, plain = pair(name)
    start, x = used_state(plain, 5, "full"), torch.randn(steps, 5, fast.input_size, dtype=torch.float64)
    for got, expected in zip(run(fast, x, start), run(plain, x, start), strict=True):
        assert_equal(got, expected, 1e-9)


@pytest.mark.parametrize(("slots", "heads"), [(128, 4), (5000, 1)])
@pytest.mark.parametrize("name", MODELS)
def test_single_precision_to_rounding(name, slots, heads):
    """Against the reference in float64: in float32 its own sums over many rows lose more."""
    slots = min(slots, 600) if name == "dnc" else slots
    fast, plain = pair(name, torch.float32, hidden=50, word_size=20, slots=slots, heads=heads)
    start, x = used_state(plain, 2, "full"), torch.randn(4, 2, fast.input_size)
    got = run(fast, x, start)
    expected = run(plain.double(), x.double(), start.to(dtype=torch.float64))
    for found, wanted in zip(got, expected, strict=True):
        assert_equal(found, wanted, 1e-5)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("name", MODELS)
def test_threads_change_no_bit(name, batch):
    """With fewer elements than threads, these share the rows of each."""
    fast, _ = pair(name, torch.float32, slots=200 if name == "dnc" else 3000, word_size=5)
    start, x, passes = used_state(fast, batch, "full"), torch.randn(4, batch, 5), []
    for threads in (1, 2, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            passes.append(run(fast, x, start))
        finally:
            torch.set_num_threads(before)
    for other in passes[1:]:
        for got, expected in zip(other, passes[0], strict=True):
            assert all(torch.equal(got[part], expected[part]) for part in ("y", "memory") if part in expected)
            assert_equal(got, expected, 1e-6)  # products of weights' gradients are torch's


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors keep their mode")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_numbers_below_the_normal_ones_are_zero_within_a_pass_and_not_after_it(name, threads):
    """Without parameters nothing is added to a row that would hide what it held."""
    fast, _ = pair(name, torch.float32)
    torch.set_num_threads(threads)
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter.zero_()
    x, passes = torch.randn(4, 2, 5), []
    for value in (0.0, 1e-40):
        start = fast.initial_state(2, fill="full")
        start.memory.memory[:, ::2] = value
        passes.append(run(fast, x, start))
    for got, expected in zip(*passes, strict=True):
        assert [key for key, wanted in expected.items() if not torch.equal(got[key], wanted)] == []
    assert (torch.tensor(1e-40) * torch.ones(())).item() > 0


@pytest.mark.parametrize("name", MODELS)
def test_states_that_nobody_differentiates_cost_no_gradient(name):
    fast, plain = pair(name)
    x = torch.randn(4, 2, 5, dtype=torch.float64)
    gradients = []
    for model in (fast, plain):
        y, after = model(x, model.initial_state(2, fill="full"))
        (y.square().sum() + after.memory.memory.sum()).backward()
        gradients.append({key: parameter.grad for key, parameter in model.named_parameters()})
    got, expected = gradients
    assert_equal(got, expected, 1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_backward_twice_gives_the_same(name):
    fast, _ = pair(name)
    y, _ = fast(torch.randn(4, 2, 5, dtype=torch.float64), fast.initial_state(2, fill="full"))
    first, second = (torch.autograd.grad(y.sum(), list(fast.parameters()), retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_state_that_was_changed_is_noticed_in_backward(name):
    fast, _ = pair(name)
    y, after = fast(torch.randn(4, 2, 5, dtype=torch.float64), fast.initial_state(2, fill="full"))
    with torch.no_grad():
        after.memory.memory.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", MODELS)
def test_nan_and_infinity_come_out(name, value):
    """In parameters, one input, a row of the memory and in each other tensor of the state."""
    places = [
        *dict(MODELS[name](**SIZES).named_parameters()),
        "x",
        "memory",
        "read_weights",
        "usage",
        "write_weights",
        "precedence",
        "link",
    ]
    for place in places:
        found = []
        for model in pair(name, torch.float32):
            torch.manual_seed(1)
            start, x = used_state(model, 2, "full"), torch.randn(5, 2, 5)
            tensors = {**dict(model.named_parameters()), **tensors_of(start), "x": x[2:3]}
            if place not in tensors:
                continue
            with torch.no_grad():
                tensors[place].view(-1)[::3] = value
                y, after = model(x, start)
            found.append([y, after.controller.reads, after.memory.memory, after.memory.read_weights])
        for got, expected in zip(*found, strict=True) if found else ():
            assert torch.equal(got.isfinite(), expected.isfinite()), place
        if found and value != value and (name, place) != ("dam", "usage"):  # which only chooses rows
            assert not found[0][0][-1, 0].isfinite().all(), place


@pytest.mark.parametrize("name", MODELS)
def test_wrong_tensors_are_named(name):
    fast, _ = pair(name, torch.float32)
    x = torch.randn(3, 2, 5)
    for tensor, changed, message in (
        ("memory", lambda memory: memory.double(), r"state.memory.memory: expected \[2, 13, 6\] torch.float32"),
        ("memory", lambda memory: memory[:, :12], r"state.memory.memory: expected \[2, 13, 6\]"),
        ("read_weights", lambda weights: weights[:, :1], r"state.memory.read_weights: expected \[2, 2, 13\]"),
    ):
        state = fast.initial_state(2)
        setattr(state.memory, tensor, changed(getattr(state.memory, tensor)))
        with pytest.raises(ValueError, match=message):
            fast(x, state)
    with pytest.raises(ValueError, match=r"x: expected torch.float32"):
        fast(x.double())
    weight = fast.interface.weight
    weight.data = weight.data.t().contiguous().t()
    with pytest.raises(ValueError, match="interface_weight: expected a contiguous"):
        fast(x)


@pytest.mark.parametrize("name", MODELS)
def test_native_kernels_do_what_is_said_or_refuse(name, monkeypatch):
    with pytest.raises(ValueError, match="kernels: expected one of auto, native, torch, got 'fast'"):
        MODELS[name](**SIZES, kernels="fast")
    with pytest.raises(ValueError, match="kernels: expected auto or torch with compiled"):
        MODELS[name](**SIZES, kernels="native", compiled=True)
    assert MODELS[name](**SIZES).backend == {"kernels": "native"}
    for way, value in (("checkpoint", True), ("compiled", True), ("kernels", "torch")):  # `auto` is for what runs plainly
        other = MODELS[name](**SIZES)
        setattr(other, way, value)
        assert (other.backend, other.fallback) == ({"kernels": "torch"}, None), way
    half = MODELS[name](**SIZES).to(torch.bfloat16)
    assert (half.backend, half.fallback) == ({"kernels": "torch"}, "native kernels compute in float32 or float64, not in bfloat16")

    own = type("Own", (MODELS[name],), {"access": lambda self, *arguments: MODELS[name].access(self, *arguments)})
    with pytest.raises(ValueError, match="kernels='native' cannot run this model: its method access is not"):
        own(**SIZES, kernels="native")(torch.randn(2, 1, 5))
    assert own(**SIZES).backend == {"kernels": "torch"}
    model = MODELS[name](**SIZES, kernels="native")
    monkeypatch.setattr(dense_native, "why_not", lambda model: "no C++ compiler found")
    with pytest.warns(RuntimeWarning, match="kernels='native' runs as 'torch': no C"):
        assert model.backend["kernels"] == "torch"
    assert model.fallback == MODELS[name](**SIZES).fallback == "no C++ compiler found"


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("steps", "batch", "lengths"), [(1, 2, None), (10, 2, None), (10, 3, [0, 10, 5]), (40, 16, None)])
@pytest.mark.parametrize("name", MODELS)
def test_checkpoints_change_no_bit(name, steps, batch, lengths):
    """Of outputs and states, in short passes and long. Gradients of NTM and DNC are rounded otherwise where segments meet: there those of
    a row's content as a write key of the next step has scored it are added one by one.
    """
    fast, plain = pair(name, torch.float32)
    segmented = MODELS[name](**SIZES, kernels="native", checkpoint=True)
    segmented.load_state_dict(fast.state_dict())
    start, x = used_state(plain, batch, "empty"), torch.randn(steps, batch, fast.input_size)
    passes = [run(functools.partial(model, lengths=lengths), x, start, model) for model in (segmented, fast)]
    (outputs, gradients), (wanted_outputs, wanted_gradients) = passes
    for key, value in wanted_outputs.items():
        assert torch.equal(outputs[key], value), key
    if name == "dam" or steps == 1:
        assert [key for key, value in wanted_gradients.items() if not torch.equal(gradients[key], value)] == []
    assert_equal(gradients, wanted_gradients, 1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpointed_pass_calls_forward_once_a_segment_and_once_more_with_a_tape_in_backward(name, monkeypatch):
    entries = []
    called = dense_native.DensePass.call

    def noted(own, entry, *given):
        entries.append((entry, own.sizes["steps"], own.sizes["taped"]))
        called(own, entry, *given)

    monkeypatch.setattr(dense_native.DensePass, "call", noted)
    model = MODELS[name](**SIZES, kernels="native", checkpoint=True)
    model(torch.randn(10, 2, 5))[0].sum().backward()  # segments of 4, 4 and 2 steps
    forward, backward = f"mb_{name}_forward", f"mb_{name}_backward"
    again = [(entry, steps, 1) for steps in (2, 4, 4) for entry in (forward, backward)]
    assert entries == [(forward, 4, 0), (forward, 4, 0), (forward, 2, 0), *again]


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_composes_with_checkpointing(name, reentrant):
    fast, _ = pair(name)
    x, gradients = torch.randn(4, 2, 5, dtype=torch.float64, requires_grad=True), []
    for function in (lambda x: fast(x)[0], lambda x: torch.utils.checkpoint.checkpoint(lambda x: fast(x)[0], x, use_reentrant=reentrant)):
        gradients.append(torch.autograd.grad(function(x).sum(), x)[0] if not reentrant else backward(function(x).sum(), x))
    assert torch.equal(*gradients)


def backward(loss: Tensor, x: Tensor) -> Tensor:
    x.grad = None
    loss.backward()
    assert x.grad is not None
    return x.grad


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_composes_with_compile(name):
    fast, _ = pair(name, torch.float32)
    x = torch.randn(4, 2, 5)
    y, _ = torch.compile(fast, backend="aot_eager")(x)
    torch.testing.assert_close(y, fast(x)[0])
    y.sum().backward()
    assert fast.controller.weight_hh.grad is not None


@pytest.mark.parametrize("name", MODELS)
def test_on_fake_tensors_only_shapes_are_computed(name):
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = MODELS[name](**{**SIZES, "slots": 1009, "hidden": 17}, kernels="native")
        assert_shapes(model)


@pytest.mark.parametrize("name", MODELS)
def test_is_a_sound_torch_operator(name, monkeypatch):
    fast, _ = pair(name, torch.float32)
    assert_sound_operators(fast, [f"mb_{name}_forward", f"mb_{name}_backward"], monkeypatch)


def test_a_frozen_model_keeps_no_tape():
    model = NTM(**{**SIZES, "slots": 20_000}, kernels="native").requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, after = model(torch.randn(6, 1, 5), model.initial_state(1, fill="full"))
    assert not y.requires_grad
    assert not after.memory.memory.requires_grad


@pytest.mark.parametrize("name", ["ntm", "dam"])
def test_a_memory_stored_past_the_caches(name):
    """Large enough that rows are, and that the second pass takes up the tape of the first."""
    fast, plain = pair(name, slots=2**15 + 5, word_size=64, heads=2)
    start, x = used_state(plain, 1, "full"), torch.randn(3, 1, fast.input_size, dtype=torch.float64)
    expected = run(plain, x, start)
    for _ in range(2):
        for got, value in zip(run(fast, x, start), expected, strict=True):
            assert_equal(got, value, 1e-9)
