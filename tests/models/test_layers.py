"""Native kernels read parameters only: a model whose layers do anything else runs on torch, and says why."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from mann_bench.kernels.native import build
from mann_bench.models import SAM, SDNC

SIZES: dict[str, Any] = {"input_size": 5, "output_size": 3, "hidden": 8, "slots": 16, "word_size": 6, "heads": 2, "reads": 2}
MODELS = {"sam": SAM, "sdnc": SDNC}

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


class TenTimes(nn.Linear):
    """A layer that returns ten times its output."""

    def forward(self, x: Tensor) -> Tensor:
        return 10 * super().forward(x)


class HardCell(nn.LSTMCell):
    """An LSTM cell that clamps its hidden state."""

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:
        hidden, cell = super().forward(x, state)
        return hidden.clamp(-0.1, 0.1), cell


def replace_output(model: Any) -> None:
    new = TenTimes(model.output.in_features, 3)
    new.load_state_dict(model.output.state_dict())
    model.output = new


def replace_controller(model: Any) -> None:
    new = HardCell(model.controller.input_size, 8)
    new.load_state_dict(model.controller.state_dict())
    model.controller = new


def no_bias(model: Any) -> None:
    model.output = nn.Linear(model.output.in_features, 3, bias=False)


def cell_without_bias(model: Any) -> None:
    model.controller = nn.LSTMCell(model.controller.input_size, 8, bias=False)


def own_forward(model: Any) -> None:
    plain = model.interface.forward
    model.interface.forward = lambda x: 0.5 * plain(x)


def views_of_one_tensor(model: Any) -> None:
    weight = model.interface.weight
    weight.data = weight.data.t().contiguous().t()


CHANGES = {
    "replaced output": (replace_output, "output is of type TenTimes, not torch.nn.Linear"),
    "replaced controller": (replace_controller, "controller is of type HardCell, not torch.nn.LSTMCell"),
    "output without bias": (no_bias, "output has no bias"),
    "controller without bias": (cell_without_bias, "controller has no bias_ih"),
    "forward of its own": (own_forward, "interface has a method forward of its own"),
    "not contiguous": (views_of_one_tensor, "interface_weight: expected a contiguous torch.float32 tensor .*, got non-contiguous"),
    "forward hook": (lambda model: model.output.register_forward_hook(lambda module, inputs, y: 10 * y), "output has hooks"),
    "forward pre-hook": (lambda model: model.interface.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],)), "interface has"),
    "backward hook": (lambda model: model.output.register_full_backward_hook(lambda module, into, out: None), "output has hooks"),
    "backward pre-hook": (lambda model: model.controller.register_full_backward_pre_hook(lambda module, out: None), "controller has hooks"),
    "weight norm": (lambda model: parametrizations.weight_norm(model.output), "output is of type ParametrizedLinear"),
    "spectral norm": (lambda model: parametrizations.spectral_norm(model.controller, "weight_hh"), "of type ParametrizedLSTMCell"),
    "old spectral norm": (lambda model: nn.utils.spectral_norm(model.interface), "interface has hooks"),
    "pruned": (lambda model: prune.random_unstructured(model.output, "weight", 0.5), "output has hooks"),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", MODELS)
def test_what_kernels_would_not_compute_runs_on_torch(name, change, reason):
    torch.manual_seed(0)
    model = MODELS[name](**SIZES)
    assert model.backend["kernels"] == "native"
    assert model.fallback is None
    change(model)
    assert model.backend["kernels"] == "torch"
    x, found = torch.randn(4, 2, 5), []
    for kernels in ("auto", "torch"):
        model.kernels = kernels
        torch.manual_seed(1)
        found.append(model.eval()(x, model.initial_state(2, fill="full"))[0])
    assert torch.equal(*found)
    model.kernels = "auto"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(model.fallback)
    model.kernels = "native"
    with pytest.raises(ValueError, match=rf"kernels='native' cannot run this model: .*{reason}.*; use kernels='auto'"):
        model(x, model.initial_state(2, fill="full"))


@pytest.mark.parametrize("name", MODELS)
def test_hooks_of_all_modules(name):
    model = MODELS[name](**SIZES)
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: None)
    try:
        assert model.backend["kernels"] == "torch"
        assert model.fallback == "there are hooks of all modules, which native kernels do not call"
    finally:
        handle.remove()
    assert model.backend["kernels"] == "native"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_number_types_that_kernels_do_not_compute_in(name, dtype):
    model = MODELS[name](**SIZES).to(dtype)
    assert model.backend["kernels"] == "torch"
    reason = f"native kernels compute in float32 or float64, not in {str(dtype).removeprefix('torch.')}"
    assert model.fallback == reason
    y, _ = model(torch.randn(3, 2, 5, dtype=dtype))
    y.float().sum().backward()
    assert y.dtype is dtype
    assert bool(y.isfinite().all())
    model.kernels = "native"
    with pytest.raises(ValueError, match=f"cannot run this model: {reason}; use kernels='auto'"):
        model(torch.randn(3, 2, 5, dtype=dtype))


def test_a_layer_of_another_number_type_or_device():
    model = SAM(**SIZES)
    model.interface.double()
    assert model.fallback == "interface_weight: expected a contiguous torch.float32 tensor [30, 8] on cpu, got torch.float64 [30, 8] on cpu"
    model.interface.to("meta", torch.float32)
    assert str(model.fallback).endswith("on cpu, got torch.float32 [30, 8] on meta")


def test_a_smaller_layer():
    model = SAM(**SIZES)
    model.output = nn.Linear(model.output.in_features, 2)
    assert model.fallback == "output_weight: expected a contiguous torch.float32 tensor [3, 20] on cpu, got torch.float32 [2, 20] on cpu"


@pytest.mark.parametrize("name", MODELS)
def test_shared_weights_run_and_get_the_sum_of_their_gradients(name):
    model = MODELS[name](**SIZES)
    model.controller.bias_hh = model.controller.bias_ih
    assert model.backend["kernels"] == "native"
    twin, x, found = copy.deepcopy(model), torch.randn(4, 2, 5), []
    twin.kernels = "torch"
    for one in (model, twin):
        one(x, one.initial_state(2, fill="full"))[0].square().sum().backward()
        found.append(one.controller.bias_ih.grad)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_a_model_with_steps_of_its_own():
    class Louder(SAM):
        def split_interface(self, interface: Tensor) -> Any:
            queries, *others = super().split_interface(interface)
            return (10 * queries, *others)

    class Larger(SAM):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options, reads=5)

    assert Louder(**SIZES).fallback == "its method split_interface is not that of the model whose steps native kernels compute"
    del (sizes := dict(SIZES))["reads"]
    assert Larger(**sizes).backend["kernels"] == "native"
