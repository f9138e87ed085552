"""The native sequences of SAM and SDNC against the step-by-step reference: outputs, states and all gradients, at sizes of every kind."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mann_bench.kernels.native import build
from mann_bench.kernels.sequence import autograd as sequence
from mann_bench.kernels.sequence import recurrence
from mann_bench.kernels.sequence.autograd import search_parts
from mann_bench.models import SAM, SDNC
from mann_bench.models.sparse import native
from tests.support.native import assert_shapes, assert_sound_operators
from tests.support.sparse_states import choices, states

SIZES: dict[str, Any] = {"input_size": 5, "output_size": 3, "hidden": 7, "word_size": 6, "slots": 13, "heads": 2, "reads": 3}
MODELS = {"sam": SAM, "sdnc": SDNC}
OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "ones": {"input_size": 1, "output_size": 1, "hidden": 1, "word_size": 1, "slots": 2, "heads": 1, "reads": 1},
    "one-head-of-many": {"heads": 1, "reads": 5},
    "word-of-32": {"word_size": 32, "hidden": 16},
    "vectors-and-a-rest": {"word_size": 37, "hidden": 53, "slots": 61, "heads": 3},
    "panels": {"hidden": 300, "word_size": 160},
    "all-rows": {"slots": 8, "reads": 8},
    "live": {"index": "live"},
    "gated": {"erase": "gated"},
    "literal": {"strength": False},
    "one-write": {"write_heads": 1},
}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}  # relative RMS of a tensor; float32: rounding grows over the steps


@pytest.fixture
def poisoned(monkeypatch):
    """Fill allocated memory with NaN, so that a read before a write shows."""
    empty, new_empty, empty_like = torch.empty, Tensor.new_empty, torch.empty_like

    def poison(tensor: Tensor) -> Tensor:
        return tensor.fill_(float("nan") if tensor.is_floating_point() else 2**30)

    monkeypatch.setattr(torch, "empty", lambda *a, **k: poison(empty(*a, **k)))
    monkeypatch.setattr(Tensor, "new_empty", lambda *a, **k: poison(new_empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: poison(empty_like(*a, **k)))


def pair(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[Any, Any]:
    """The same model on native kernels and step by step, with weights so large that gates are not all near 0.5."""
    torch.manual_seed(0)
    fast, plain = (MODELS[name](**{**SIZES, **options, "kernels": kernels}).to(dtype) for kernels in ("native", "torch"))
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    fast.load_state_dict(plain.state_dict())
    return fast, plain


def relative_error(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape
    assert bool(torch.isfinite(got).all())
    scale = expected.double().square().mean().sqrt().clamp_min(1e-12)
    return float((got.double() - expected.double()).square().mean().sqrt() / scale)


def compare(fast: Any, plain: Any, steps: int, batch: int, fill: str, tolerance: float) -> None:
    """Compare two chunks, with gradients through every output and state; the second chunk starts from a state that needs gradients."""
    first = [model.initial_state(batch, fill=fill, seed=1) for model in (fast, plain)]
    with torch.no_grad():  # start from a used memory, with reads and weights of a step before
        warm = torch.randn(3, batch, fast.input_size, dtype=fast.output.weight.dtype)
        started = [model(warm, state)[1] for model, state in zip((fast, plain), first, strict=True)]
    x = torch.randn(steps, batch, fast.input_size, dtype=warm.dtype)
    runs = []
    for model, state in zip((fast, plain), started, strict=True):
        leaves = {"x": x.clone().requires_grad_()}
        for name in ("hidden", "cell", "reads"):
            leaves[name] = getattr(state.controller, name).detach().clone().requires_grad_()
            setattr(state.controller, name, leaves[name])
        present = state.memory.index >= 0
        leaves["weights"] = state.memory.weights = state.memory.weights.detach().clone().requires_grad_()
        y, after = model(leaves["x"], state)
        held = states(after)
        outputs = {"y": y, **{n: held[n] for n in ("hidden", "cell", "reads", "weights")}}
        ends = ({name: value.detach().clone() for name, value in held.items()}, choices(after))
        generator = torch.Generator().manual_seed(5)
        loss = sum((value * torch.randn(value.shape, generator=generator, dtype=value.dtype)).sum() for value in outputs.values())
        parameters = dict(model.named_parameters())
        wanted = {**leaves, **parameters}
        gradients = dict(zip(wanted, torch.autograd.grad(loss, list(wanted.values())), strict=True))
        gradients["weights"] = gradients["weights"] * present  # of a row that is not there, a weight is 0 and has no gradient
        runs.append((y.detach(), ends, gradients))
    (y, (held, chosen), gradients), (expected_y, (expected_held, expected_chosen), expected_gradients) = runs
    assert chosen == expected_chosen
    assert relative_error(y, expected_y) < tolerance
    for name, value in expected_held.items():
        assert relative_error(held[name], value) < tolerance, name
    for name, value in expected_gradients.items():
        assert relative_error(gradients[name], value) < tolerance, name


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_reference(name, options, fill):
    fast, plain = pair(name, **options)
    compare(fast, plain, steps=9, batch=2, fill=fill, tolerance=TOLERANCE[torch.float64])


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("panels", [False, True], ids=["rows", "panels"])
@pytest.mark.parametrize("batch", range(1, 9))
@pytest.mark.parametrize("options", ["ones", "vectors-and-a-rest", "panels"])
@pytest.mark.parametrize("name", MODELS)
def test_weights_as_they_are_or_in_panels(name, options, batch, panels, monkeypatch):
    monkeypatch.setattr(recurrence, "pay_panels", lambda *sizes: panels)
    fast, plain = pair(name, **OPTIONS[options])
    compare(fast, plain, steps=3, batch=batch, fill="full", tolerance=TOLERANCE[torch.float64])


@pytest.mark.parametrize("name", MODELS)
def test_a_call_that_fails_leaves_the_state_as_it_was(name):
    model, _ = pair(name, torch.float32)
    x, weight = torch.randn(4, 1, model.input_size), model.interface.weight
    expected, _ = model(x, model.initial_state(1, fill="full"))
    state, good = model.initial_state(1, fill="full"), weight.data
    weight.data = good.t().contiguous().t()
    with pytest.raises(ValueError, match="interface_weight: expected a contiguous"):
        model(x, state)
    weight.data = good
    y, _ = model(x, state)
    assert torch.equal(y, expected)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("steps", [1, 31])
@pytest.mark.parametrize("name", MODELS)
def test_single_precision_to_rounding(name, steps, batch):
    fast, plain = pair(name, torch.float32, hidden=100, word_size=32, slots=64, heads=4, reads=4, index="live")
    compare(fast, plain, steps, batch, "full", TOLERANCE[torch.float32])


def test_huge_strengths_single_out_the_nearest_row():
    """A strength times a cosine loses far more to rounding than 1, and the softmax of K such products must not see it."""
    fast, plain = pair("sam", torch.float32, slots=61)
    x = torch.randn(5, 4, 5)
    reads = []
    with torch.no_grad():
        for model in (fast, plain):
            first = model.heads * model.word_size
            model.interface.bias[first : first + model.heads] = 1e12
            after = model(x, model.initial_state(4, fill="full", seed=1))[1]
            reads.append((after.memory.index, after.memory.weights))
    assert torch.equal(reads[0][0], reads[1][0])
    assert torch.allclose(reads[0][1], reads[1][1], atol=1e-3)
    assert (reads[0][1].max(-1).values > 0.9).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_gates_of_huge_numbers_are_0_or_1(sign):
    """A write gate of 1e-38 instead of 0 would let a row that nothing was written to take part in the SDNC's links."""
    fast, plain = pair("sdnc", torch.float32)
    x, found = torch.randn(5, 2, 5), []
    for model in (fast, plain):
        with torch.no_grad():
            model.controller.bias_ih.fill_(sign * 1e11)
            model.interface.bias.fill_(sign * 1e11)
        y, after = model(x, model.initial_state(2, fill="full", seed=1))
        gradients = torch.autograd.grad(y.sum(), [model.output.weight, model.interface.weight, model.controller.weight_ih])
        memory = after.memory
        found.append([y, after.controller.hidden, memory.weights, memory.precedence_weights, memory.links.after_values, *gradients])
    for got, expected in zip(*found, strict=True):
        assert torch.equal(got == 0, expected == 0)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    assert bool((found[0][1] == 0).all()) == (sign < 0)


@pytest.mark.parametrize("scale", [1e-7, 1e-5, 1e-3, 0.03, 0.1, 1, 30])
def test_hidden_states_of_any_size_keep_their_digits(scale):
    fast, plain = pair("sam", torch.float32)
    found = []
    for model in (fast, plain):
        with torch.no_grad():
            state = model.initial_state(8)
            state.controller.cell.copy_(scale * torch.linspace(-1, 1, state.controller.cell.numel()).view_as(state.controller.cell))
            cell_gate = slice(2 * model.hidden, 3 * model.hidden)
            for parameter in model.controller.parameters():
                parameter[cell_gate] = 0
            found.append(model(torch.zeros(1, 8, 5), state)[1].controller.hidden)
    torch.testing.assert_close(*found, rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("name", MODELS)
def test_threads_change_no_bit(name):
    fast, _ = pair(name, torch.float32)
    x, passes = torch.randn(8, 5, 5), []
    for threads in (1, 2, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            fast.zero_grad()
            y, _ = fast(x, fast.initial_state(5, fill="full"))
            y.square().sum().backward()
        finally:
            torch.set_num_threads(before)
        passes.append(y.detach())
    assert torch.equal(passes[0], passes[1])
    assert torch.equal(passes[0], passes[2])


@pytest.mark.parametrize(("batch", "threads"), [(1, 2), (1, 3), (2, 4)])
@pytest.mark.parametrize(
    ("kind", "options"), [(SAM, {}), (SAM, {"index": "live"}), (SDNC, {"link_entries": 3})], ids=["sam", "live", "sdnc"]
)
def test_threads_that_share_the_rows_of_an_element_change_no_bit(kind, options, batch, threads, monkeypatch):
    """With fewer elements than threads the search of a large memory is divided; rows past the candidates are in the last part."""
    parts = []

    def noted(*given):
        parts.append(search_parts(*given))
        return parts[-1]

    monkeypatch.setattr(sequence, "search_parts", noted)
    torch.manual_seed(0)
    model = kind(input_size=5, output_size=4, hidden=20, slots=50_021, word_size=32, heads=2, reads=3, kernels="native", **options)
    x, passes = torch.randn(6, batch, 5), []
    before = torch.get_num_threads()
    for number in (1, threads):
        torch.set_num_threads(number)
        try:
            state = model.initial_state(batch, fill="full" if options.get("index") != "live" else "empty")
            state.memory.rows.num_candidates = 50_000
            y, after = model(x, state)
            gradients = torch.autograd.grad(y.square().sum(), list(model.parameters()))
        finally:
            torch.set_num_threads(before)
        passes.append([y.detach(), after.memory.index, after.memory.weights.detach(), *gradients])
    assert parts == [1, 3]  # 16,384 rows each
    assert all(torch.equal(one, other) for one, other in zip(*passes, strict=True))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize("snapshot", ["bfloat16", "int8"])
@pytest.mark.parametrize("options", [name for name in OPTIONS if name != "panels"])
@pytest.mark.parametrize("name", MODELS)
def test_rounded_rows_give_the_gradients_of_the_reference(name, options, snapshot, fill):
    fast, plain = pair(name, **OPTIONS[options], snapshot=snapshot)
    compare(fast, plain, steps=9, batch=2, fill=fill, tolerance=TOLERANCE[torch.float64])


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_storage(name):
    """Rows are rounded to 8 bits at every write; both paths round, not at the same places."""
    fast, plain = pair(name, torch.float32, storage=torch.bfloat16)
    state = fast.initial_state(2, fill="full")
    assert state.memory.memory.dtype == torch.bfloat16
    before = state.memory.memory.clone()
    x = torch.randn(4, 2, 5)
    y, _ = fast(x, state)
    y.square().sum().backward()
    expected, _ = plain(x, plain.initial_state(2, fill="full"))
    expected.square().sum().backward()
    assert torch.equal(state.memory.memory, before)
    assert relative_error(y.detach(), expected.detach()) < 0.02
    for (key, got), wanted in zip(fast.named_parameters(), plain.parameters(), strict=True):
        assert relative_error(got.grad, wanted.grad) < 0.1, key


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("name", MODELS)
def test_nan_and_infinity_leave_a_valid_memory(name, value):
    fast, _ = pair(name, torch.float32)
    state = fast.initial_state(2, fill="full")
    before = [t.clone() for t in (state.memory.memory, state.memory.rows.norms, state.memory.rows.ring.order())]
    x = torch.randn(6, 2, 5)
    x[2, 0] = value
    y, after = fast(x, state)
    assert sorted(after.memory.rows.ring.order()[0].tolist()) == list(range(13))
    assert bool(torch.isfinite(y[:, 1]).all())  # the other batch element does not change
    y.sum().backward()
    for old, new in zip(before, (state.memory.memory, state.memory.rows.norms, state.memory.rows.ring.order()), strict=True):
        assert torch.equal(old, new)


@pytest.mark.filterwarnings("ignore")  # dynamo says where it leaves the graph: the memory changes in place outside of it
@pytest.mark.parametrize("name", MODELS)
def test_composes_with_compile(name):
    fast, _ = pair(name, torch.float32)
    x = torch.randn(4, 2, 5)
    expected, _ = fast(x)
    compiled = torch.compile(fast, backend="aot_eager")
    y, _ = compiled(x)
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert fast.controller.weight_hh.grad is not None


@pytest.mark.parametrize("index", ["exact", "live", "lsh"])
@pytest.mark.parametrize("name", MODELS)
def test_on_fake_tensors_only_shapes_are_computed(name, index):
    """The sizes are used by no other test, because shapes are computed once per size."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = MODELS[name](**{**SIZES, "slots": 1009, "hidden": 17, "index": index}, kernels="native")
        assert_shapes(model)


@pytest.mark.parametrize("name", MODELS)
def test_is_a_sound_torch_operator(name, monkeypatch):
    fast, _ = pair(name, torch.float32)
    assert_sound_operators(fast, ["mb_forward", "mb_backward"], monkeypatch)


def test_falls_back_with_one_warning_and_says_so(monkeypatch):
    monkeypatch.setattr(native, "why_not", lambda *sizes: "no C++ compiler found: install g++ or clang++, or set CXX")
    model = SAM(**SIZES, kernels="native")
    with pytest.warns(RuntimeWarning, match=r"kernels='native' runs as 'torch': no C\+\+ compiler"):
        assert model.backend["kernels"] == "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SAM(**SIZES, kernels="auto").backend["kernels"] == "torch"
        assert SAM(**SIZES).half().backend["kernels"] == "torch"


def test_storage_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="storage: expected None"):
        SAM(**SIZES, storage=torch.float16)


def test_a_long_sequence_trains_in_one_piece():
    """Ten thousand steps over a million slots; a hundred thousand are in the kernels suite."""
    assert build.why_not() is None
    model = SAM(input_size=3, output_size=1, hidden=8, slots=2**20, word_size=8, heads=1, reads=2, index="live", kernels="native")
    y, _ = model(torch.randn(10_000, 1, 3), model.initial_state(1))
    y.square().mean().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())
