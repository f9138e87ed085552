"""Padded batches: an element that ends early has outputs, state and gradients as if it had run alone for its length."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mann_bench.kernels.index import Exact
from mann_bench.kernels.sequence import autograd as sequence
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.models.lstm import LSTMState
from mann_bench.models.mann import MANN
from mann_bench.models.state import State
from tests.support.models import DENSE, MODELS, SPARSE, make, tensors_of
from tests.support.sparse_states import choices, in_place, states

models = pytest.mark.parametrize("name", MODELS)
sparse = pytest.mark.parametrize("name", SPARSE)
LENGTHS = [4, 9, 0, 1, 9]
OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {"slots": 11},
    "lsh": {"slots": 40, "index": "lsh"},
    "live": {"slots": 40, "index": "live"},
    "gated, one writer": {"slots": 9, "erase": "gated", "write_heads": 1},
}
OTHERS = {"a library's index": "faiss-hnsw", "an own index": f"{__name__}:Careless"}


class Careless(Exact):
    """An index that does not know of elements with fewer candidates than others."""

    in_sequence = False

    def query(self, rows: Any, queries: Tensor, reads: int) -> Tensor:
        first = torch.arange(reads)
        return torch.where(first < rows.num_candidates, first, -1).expand(*queries.shape[:2], -1)


def padded(lengths: list[int], steps: int) -> Tensor:
    """Sequences [T, B, 4] that are NaN beyond their lengths."""
    x = torch.randn(steps, len(lengths), 4, dtype=torch.float64)
    for element, length in enumerate(lengths):
        x[length:, element] = torch.nan
    return x.requires_grad_()


def made(state: Any) -> list[Tensor]:
    """The tensors of a state that a step makes anew."""
    if not hasattr(state, "controller") or not in_shared(state):
        return tensors_of(state)
    return [*state.controller.tensors(), *([state.memory.weights] if hasattr(state.memory, "weights") else [])]


def in_shared(state: Any) -> bool:
    return hasattr(state.memory, "rows")


def loss_of(y: Tensor, state: Any, weight: Tensor) -> Tensor:
    controller = getattr(state, "controller", state)
    parts = [(y * weight).sum(), controller.hidden.sum(), controller.cell.square().sum()]
    if hasattr(controller, "reads"):
        parts.append(controller.reads.square().sum())
    return torch.stack(parts).sum()


def assert_as_alone(model: Any, lengths: list[int], steps: int, fill: str = "empty", calls: int = 1) -> Any:
    """Compare with each element run alone; in several calls, each has all its own steps in one. Returns the state."""
    batch, parameters = len(lengths), list(model.parameters())
    parts = [padded(lengths, steps) for _ in range(calls)]
    weights = [torch.randn(steps, batch, 3, dtype=torch.float64) for _ in range(calls)]
    state = model.initial_state(batch, fill=fill)
    alone = [state[element : element + 1] for element in range(batch)]
    total, outputs = torch.zeros((), dtype=torch.float64), []
    for x, weight in zip(parts, weights, strict=True):
        y, state = model(x, state, torch.tensor(lengths))
        outputs.append(y)
        total = total + loss_of(y, state, weight)
    gradients = torch.autograd.grad(total, [*parts, *parameters], materialize_grads=True)
    state = state.detach()
    summed = [torch.zeros_like(parameter) for parameter in parameters]
    for element, length in enumerate(lengths):
        own, own_total = alone[element], torch.zeros((), dtype=torch.float64)
        sources = [x.detach()[:length, element : element + 1].clone().requires_grad_() for x in parts]
        for x, weight, y in zip(sources, weights, outputs, strict=True):
            assert bool((y[length:, element] == 0).all())
            if length:
                expected, own = model(x, own)
                torch.testing.assert_close(y[:length, element : element + 1], expected, rtol=1e-10, atol=1e-10)
                own_total = own_total + loss_of(expected, own, weight[:length, element : element + 1])
        if length:
            found = torch.autograd.grad(own_total, [*sources, *parameters])
            for x, gradient, source in zip(gradients, found, sources, strict=False):
                torch.testing.assert_close(x[:length, element : element + 1], gradient, rtol=1e-8, atol=1e-8)
                assert bool((x[length:, element] == 0).all())
                assert source.requires_grad
            for total_of, gradient in zip(summed, found[calls:], strict=True):
                total_of += gradient
        assert_same_state(state[element : element + 1], own.detach())
    for got, expected in zip(gradients[calls:], summed, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)
    return state


def assert_same_state(got: Any, expected: Any) -> None:
    if hasattr(got, "memory") and in_shared(got):
        assert choices(got) == choices(expected)
        for name, value in states(expected).items():
            torch.testing.assert_close(states(got)[name], value, rtol=1e-10, atol=1e-10, msg=name)
        return
    for a, b in zip(tensors_of(got), tensors_of(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fill", ["empty", "full"])
@models
def test_as_each_element_alone(name, fill):
    assert_as_alone(make(name), LENGTHS, 9, fill)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@sparse
def test_a_chain_of_calls(name, options):
    """Its later calls begin where elements have written different numbers of rows."""
    state = assert_as_alone(make(name, **options), [2, 4, 0, 3], 4, calls=2)
    assert state.memory.rows.counts is not None


@pytest.mark.parametrize("index", OTHERS.values(), ids=OTHERS)
def test_other_indexes(index):
    """They run step by step; each element is read from its own candidates."""
    if index.startswith("faiss"):
        pytest.importorskip("faiss")
    assert_as_alone(make("sdnc", slots=40, index=index), [2, 4, 0, 3], 4, calls=2)


@pytest.mark.parametrize("options", [{"write_heads": 1}, {"slots": 40, "strength": False}])
@pytest.mark.parametrize("name", ["dam", "dam-native"])
def test_dam_counts_the_rows_of_each_element(name, options):
    state = assert_as_alone(make(name, **options), [2, 4, 0, 3], 4, calls=2)
    assert state.memory.candidates is not None


@pytest.mark.parametrize("name", [f"{name}-native" for name in (*DENSE, "sam", "sdnc")])
def test_long_passes_on_native_kernels(name):
    """Transposed weights, products by torch around the call, more elements than a tile has."""
    assert_as_alone(make(name), [23, 9, 14, 23, 0, 14, 1], 30)


@pytest.mark.parametrize("name", ["sam-native", "sdnc-native"])
def test_blocks_that_share_a_search(name, monkeypatch):
    monkeypatch.setattr(sequence, "search_parts", lambda *sizes: 3)
    assert_as_alone(make(name, slots=40), LENGTHS, 9, "full")


@pytest.mark.parametrize("name", [f"{name}{kind}" for name in DENSE for kind in ("", "-native")])
def test_checkpoints(name):
    assert_as_alone(make(name, checkpoint=True), LENGTHS, 9)


@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=6), calls=st.integers(1, 2), name=st.sampled_from(SPARSE))
def test_any_lengths(lengths, calls, name):
    torch.manual_seed(0)
    assert_as_alone(make(name), lengths, 5, calls=calls)


@sparse
def test_an_element_has_what_it_has_where_all_are_cut_at_its_length(name):
    model, x = make(name), torch.randn(6, 3, 4, dtype=torch.float64)
    lengths = [2, 6, 4]
    with torch.no_grad():
        state = model(x, model.initial_state(3, fill="full"), lengths)[1]
        for element, length in enumerate(lengths):
            cut = model(x[:length], model.initial_state(3, fill="full"))[1]
            for (key, got), expected in zip(states(state).items(), states(cut).values(), strict=True):
                torch.testing.assert_close(got[element], expected[element], rtol=0, atol=1e-14, msg=key)
            assert choices(state[element : element + 1]) == choices(cut[element : element + 1])


@sparse
def test_backward_and_rollback_restore_to_the_bit(name):
    model, x = make(name, slots=40, index="lsh"), padded(LENGTHS, 9)
    with torch.no_grad():
        _, state = model(torch.randn(3, 5, 4, dtype=torch.float64), model.initial_state(5), [1, 3, 2, 0, 3])
    before = in_place(state)

    def counts(steps: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(model.write_heads * own for own in steps)

    for undo in (lambda y, after: y.sum().backward(), lambda y, after: after.rollback()):
        y, after = model(x, state, LENGTHS)
        end = in_place(after)
        undo(y, after)
        assert all(torch.equal(a, b) for a, b in zip(before.values(), in_place(state).values(), strict=True))
        assert state.memory.rows.counts == counts((1, 3, 2, 0, 3))
    y, after = model(x, state, LENGTHS)
    y.sum().backward()
    again = after.detach()
    assert all(torch.equal(a, b) for a, b in zip(end.values(), in_place(again).values(), strict=True))
    assert again.memory.rows.counts == counts((5, 12, 2, 1, 12))


@models
def test_without_gradients_as_with_them(name):
    model, x = make(name), padded(LENGTHS, 9)
    expected, after = model(x, model.initial_state(5), LENGTHS)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            y, state = model(x, model.initial_state(5), LENGTHS)
        assert torch.equal(y, expected)
        assert all(torch.equal(a, b) for a, b in zip(made(state), made(after), strict=True))


@pytest.mark.parametrize("name", ["lstm", "ntm", "dam-native"])
def test_gradcheck(name):
    model, x = make(name), torch.randn(3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model(x, model.initial_state(3, fill="full"), [2, 3, 0])[0], x)


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_an_lstm_runs_what_torch_packs(dtype, relative):
    """States and weights are large, so that gates saturate."""
    model: Any = make("lstm").to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    lengths = Lengths((4, 9, 0, 1, 9, 2, 2, 7, 8, 3, 0, 5, 9, 6, 1, 4, 4), 9)
    x = padded(list(lengths.each), 9).detach().to(dtype).requires_grad_()
    hidden, cell = (torch.randn(17, model.hidden, dtype=dtype, requires_grad=True) for _ in range(2))
    weights = [torch.randn(9, 17, model.output_size, dtype=dtype), *torch.randn(2, 17, model.hidden, dtype=dtype)]

    def outputs_and_gradients(run: Any) -> list[Tensor]:
        y, state = run(x, LSTMState(hidden, cell), lengths)
        outputs = [y, state.hidden, state.cell]
        loss = sum((output * weight).sum() for output, weight in zip(outputs, weights, strict=True))
        return [*outputs, *torch.autograd.grad(loss, [x, hidden, cell, *model.parameters()])]

    got, expected = outputs_and_gradients(model.run_halving), outputs_and_gradients(model.run_packed)
    for mine, torchs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, torchs, rtol=relative, atol=relative * float(torchs.detach().abs().max()))


@pytest.mark.parametrize("name", ["sam", "sam-native"])
def test_finite_differences(name):
    """A pass of SAM runs backward once, so in one direction; the step is too small to change which rows are read."""
    model, x = make(name), torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)

    def loss(x: Tensor) -> Tensor:
        return model(x, model.initial_state(3, fill="full"), [2, 5, 0])[0].square().sum()

    (gradient,), direction = torch.autograd.grad(loss(x), [x]), torch.randn_like(x)
    with torch.no_grad():
        slope = (loss(x + 1e-6 * direction) - loss(x - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-8)


@models
def test_full_lengths_change_nothing(name, monkeypatch):
    """Not even what runs: all lengths are the number of steps."""
    model, x = make(name), torch.randn(4, 3, 4, dtype=torch.float64)
    expected, _ = model(x, model.initial_state(3))
    if name != "lstm":
        run = type(model).run
        monkeypatch.setattr(type(model), "run", lambda own, x, state: run(own, x, state))
    y, _ = model(x, model.initial_state(3), [4, 4, 4])
    assert torch.equal(y, expected)


@models
def test_elements_without_a_step_keep_their_state(name):
    model, x = make(name), torch.full((2, 3, 4), torch.nan, dtype=torch.float64)
    with torch.no_grad():
        _, state = model(torch.randn(2, 3, 4, dtype=torch.float64), model.initial_state(3))
        expected = [tensor.clone() for tensor in state.tensors()]
        y, after = model(x, state, torch.zeros(3, dtype=torch.int32))
    assert bool((y == 0).all())
    if hasattr(after, "memory") and in_shared(after):
        assert choices(after[:]) is not None
        expected, got = [t for t in expected if t.dtype.is_floating_point], [t for t in after.tensors() if t.dtype.is_floating_point]
        assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    else:
        assert all(torch.equal(a, b) for a, b in zip(expected, after.tensors(), strict=True))


@pytest.mark.parametrize("storage", [None, torch.bfloat16])
@pytest.mark.parametrize("name", ["sam", "sdnc", "sam-native", "sdnc-native"])
def test_rows_in_their_own_type(name, storage):
    model = make(name, storage=storage).float()
    state = model.initial_state(5, fill="full")
    before = in_place(state)
    y, _ = model(torch.randn(9, 5, 4), state, LENGTHS)
    y.square().sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), in_place(state).values(), strict=True))
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


@pytest.mark.parametrize(
    "lengths", [[1, 2], [1, 2, 5], [1, 2, -1], [1.0, 2.0, 3.0], torch.ones(3), torch.ones(1, 3, dtype=torch.int64), [True, False, True]]
)
@pytest.mark.parametrize("name", ["lstm", "ntm", "sam-native"])
def test_wrong_lengths_are_named(name, lengths):
    model = make(name)
    with pytest.raises(ValueError, match=r"lengths: expected 3 whole numbers from 0 to T = 4, one for each batch element of x, got"):
        model(torch.randn(4, 3, 4, dtype=torch.float64), lengths=lengths)


def test_an_own_model_of_the_base_class_has_lengths_too():
    """It says what one step does; ended elements are taken out of the batch."""

    class Own(type(make("ntm"))):  # type: ignore[misc]
        def access(self, interface: Tensor, memory: Any) -> Any:
            self.batches.append(len(interface))
            return super().access(interface, memory)

    model: Any = Own(input_size=4, output_size=3, slots=7, heads=2).double()
    model.batches = []
    assert issubclass(Own, MANN)
    model(padded([1, 3, 2], 4), lengths=[1, 3, 2])
    assert model.batches == [3, 2, 1]


def test_a_state_of_ones_own_that_counts_for_the_whole_batch_is_refused():
    @dataclasses.dataclass
    class Counted(State):
        rows: Tensor
        steps: int

    one, two = Counted(torch.zeros(1, 2), 3), Counted(torch.ones(1, 2), 4)
    with pytest.raises(ValueError, match=r"Counted: expected elements of one batch to differ in tensors only, got .*override put and join"):
        Counted.join([one, two])
    with pytest.raises(ValueError, match="override put and join"):
        one.put(torch.tensor([0]), two)
    assert torch.equal(Counted.join([one, one]).rows, torch.zeros(2, 2))
