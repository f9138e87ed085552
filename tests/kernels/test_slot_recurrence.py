"""SDM behind an LSTM in one native call against the reference in torch, on the cpu and emu builds: outputs, states, all gradients."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from mann_bench.kernels.native import build
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.sequence import recurrence, slot_steps
from mann_bench.models import SDM
from tests.kernels.test_emulated import emulator
from tests.kernels.test_slot_steps import close

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")

# ones, primes, a common word size with more elements than a tile, three factors with all slots
SIZES: list[tuple[int, int, dict[str, Any]]] = [
    (1, 1, {"hidden": 1, "slots": 1, "word_size": 1, "heads": 1, "reads": 1}),
    (5, 3, {"hidden": 7, "slots": 49, "word_size": 5, "heads": 3, "reads": 2, "writes": 3, "weights": "l2"}),
    (4, 11, {"hidden": 13, "slots": 25, "word_size": 32, "heads": 2, "reads": 4, "decay": "weighted"}),
    (6, 2, {"hidden": 5, "slots": 12, "factors": "2x3x2", "word_size": 37, "heads": 1, "reads": 12, "start": "learned", "scale": 0.7}),
]


def make(sizes: dict[str, Any], kernels: str, dtype: torch.dtype = torch.float64) -> SDM:
    torch.manual_seed(0)
    model = SDM(input_size=3, output_size=2, controller="lstm", kernels=kernels, **sizes).to(dtype)
    for name, parameter in model.named_parameters():
        if name not in ("gates.log_decay", "gates.step_bias"):
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def results(model: SDM, steps: int, batch: int, lengths: list[int] | None) -> list[Tensor]:
    """Of two passes, the second from the state of the first: outputs, states, gradients; and the bank as backward leaves it."""
    generator = torch.Generator().manual_seed(1)
    xs = [torch.randn(steps, batch, 3, generator=generator, dtype=model.output.weight.dtype).requires_grad_() for _ in range(2)]
    state = model.initial_state(batch)
    first = state.map(lambda tensor: tensor)
    controller = state.controller.map(lambda tensor: torch.full_like(tensor, 0.1).requires_grad_())
    y, middle = model(xs[0], type(state)(controller, state.memory), lengths)
    z, end = model(xs[1], middle)
    bank = end.memory.memory.clone()
    loss = y.square().sum() + z.square().sum() + sum(tensor.square().sum() for tensor in end.controller.tensors())
    gradients = torch.autograd.grad(loss, [*xs, *controller.tensors(), *model.parameters()])
    assert torch.equal(state.memory.memory, first.memory.memory)
    dense = [gradient.to_dense() if gradient.is_sparse else gradient for gradient in gradients]
    return [part.detach() for part in (y, z, *end.controller.tensors(), bank, *dense)]


@pytest.mark.parametrize("emulate", [False, True], ids=["cpu", "emu"])
@pytest.mark.parametrize("ends_early", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_the_reference(size, ends_early, emulate, monkeypatch):
    steps, batch, sizes = size
    lengths = [(3 * element + 1) % (steps + 1) for element in range(batch)] if ends_early else None
    expected = results(make(sizes, "torch"), steps, batch, lengths)
    monkeypatch.setattr(slot_steps, "Build", functools.partial(Build, emulate=emulate))
    model = make(sizes, "native")
    assert model.runs_whole
    for got, wanted in zip(results(model, steps, batch, lengths), expected, strict=True):
        close(got, wanted)


@pytest.mark.parametrize("emulate", [False, True], ids=["cpu", "emu"])
@pytest.mark.parametrize("panels", [False, True], ids=["rows", "panels"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_weights_as_they_are_or_in_panels(size, panels, emulate, monkeypatch):
    steps, batch, sizes = size
    expected = results(make(sizes, "torch"), steps, batch, None)
    monkeypatch.setattr(slot_steps, "Build", functools.partial(Build, emulate=emulate))
    monkeypatch.setattr(recurrence, "pay_panels", lambda *sizes: panels)
    for got, wanted in zip(results(make(sizes, "native"), steps, batch, None), expected, strict=True):
        close(got, wanted)


def test_without_gradients_nothing_is_kept_and_the_result_is_the_same():
    model = make(SIZES[2][2], "native")
    x, states = torch.randn(9, 11, 3, dtype=torch.float64), [model.initial_state(11, fill="full") for _ in range(2)]
    expected, after = model(x, states[0])
    with torch.no_grad():
        y, end = model(x, states[1])
    assert torch.equal(y, expected)
    assert torch.equal(end.memory.memory, after.memory.memory)
    assert end.memory.rows.history.standing == []


@pytest.mark.parametrize("sizes", [{"norm": True}, {"gate": True}])
def test_what_stands_between_the_reads_and_the_controller_runs_step_by_step(sizes):
    model = make({"hidden": 4, "slots": 9, "word_size": 4, "heads": 1, "reads": 2, **sizes}, "native")
    assert not model.runs_whole
    reference = make({"hidden": 4, "slots": 9, "word_size": 4, "heads": 1, "reads": 2, **sizes}, "torch")
    for got, wanted in zip(results(model, 4, 2, None), results(reference, 4, 2, None), strict=True):
        close(got, wanted)


def test_another_controller_or_another_step_runs_step_by_step():
    class Other(SDM):
        def control(self, *args: Any) -> Any:
            hidden, cell = super().control(*args)
            return hidden + 1, cell

    sizes: dict[str, Any] = {"input_size": 3, "output_size": 2, "hidden": 4, "slots": 9, "word_size": 4, "heads": 1, "reads": 2}
    changed, plain = Other(controller="lstm", **sizes), SDM(controller="lstm", **sizes)
    plain.load_state_dict(changed.state_dict())
    x = torch.randn(4, 2, 3)
    assert (plain.runs_whole, changed.runs_whole) == (True, False)
    assert not torch.allclose(plain(x)[0], changed(x)[0])
    hooked = SDM(controller="lstm", **sizes)
    hooked.controller.register_forward_hook(lambda *_: None)
    assert not hooked.runs_whole


def test_weights_changed_before_backward_are_noticed():
    model = make(SIZES[1][2], "native")
    y, _ = model(torch.randn(3, 2, 3, dtype=torch.float64))
    with torch.no_grad():
        model.interface.weight += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_finite_inputs_come_out_where_the_reference_has_them(bad):
    x, found = torch.randn(5, 3, 3), []
    x[2, 1, 0] = bad
    for kernels in ("torch", "native"):
        model = make(SIZES[2][2], kernels, torch.float32)
        with torch.no_grad():
            y, _ = model(x, model.initial_state(3, fill="full"))
        found.append(y)
    torch.testing.assert_close(found[1], found[0], equal_nan=True, rtol=1e-4, atol=1e-5)
    assert bool(found[0][:, [0, 2]].isfinite().all())


def every_call() -> list[Tensor]:
    found = []
    for sizes in (SIZES[1][2], SIZES[2][2]):
        model = make(sizes, "native", torch.float32)
        found += results(model, 4, 3, [2, 4, 3])
    return found


@pytest.mark.parametrize("gpu_width", [None, 0], ids=["emu", "gpu"])
def test_no_race_and_every_removed_barrier_is_detected(gpu_width, tmp_path_factory):
    threads = emulator("thread", tmp_path_factory, gpu_width=gpu_width)
    with threads.instead():
        found = every_call()
    for got, expected in zip(found, every_call(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    in_text = {"mb_slots_forward", "mb_slots_backward"}  # on a GPU the barriers are those of warps
    threads.assert_every_barrier_matters(in_text | {"mb_slot_weights_back"}, in_text if gpu_width is None else set())
