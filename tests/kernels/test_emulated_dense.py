"""The dense models' kernels on real threads, as `test_emulated.py` does it for the sparse ones."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mann_bench.kernels.native import build
from mann_bench.models import DAM, DNC, NTM
from tests.kernels.test_emulated import HOSTILE, emulator

SIZES: dict[str, Any] = {"input_size": 3, "output_size": 2, "hidden": 11, "kernels": "native"}
MODELS: dict[str, Callable[[], Any]] = {  # chunks have 4 rows here, in two blocks
    "ntm": lambda: NTM(**SIZES, slots=8, word_size=5, heads=2, write_heads=2),
    "ntm-large": lambda: NTM(**SIZES, slots=37, word_size=32, heads=3, shifts=2),
    "dam": lambda: DAM(**SIZES, slots=11, word_size=5, heads=3),
    "dam-one-writer": lambda: DAM(**SIZES, slots=8, word_size=4, heads=2, write_heads=1, strength=False),
    "dnc": lambda: DNC(**SIZES, slots=11, word_size=5, heads=2),
}

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


@pytest.fixture(scope="module")
def threads(tmp_path_factory):
    return emulator("thread", tmp_path_factory, dense=True)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    return emulator("address,undefined", tmp_path_factory, dense=True)


def make(name: str) -> Any:
    torch.manual_seed(0)
    return MODELS[name]()


def passes(model: Any, poison: float | None = None, lengths: list[int] | None = None) -> list[torch.Tensor]:
    """Outputs and gradients of two passes, of which the second starts from a state with a gradient, and outputs of one without a tape."""
    torch.manual_seed(1)
    x = torch.randn(3, 2, 3)
    if poison is not None:
        x[1, 0] = poison
    x.requires_grad_()
    first, state = model(x, model.initial_state(2, fill="full"), lengths)
    y, _ = model(x, state, lengths)
    found = [y.detach(), *torch.autograd.grad((first + y).sum(), [x, *model.parameters()], allow_unused=True)]
    with torch.no_grad():
        _, state = model(x, model.initial_state(2), lengths)
        return [*found, model(x, state, lengths)[0]]


def assert_as_reference(model: Any, found: list[torch.Tensor], lengths: list[int] | None = None) -> None:
    model.kernels = "torch"
    for got, expected in zip(found, passes(model, lengths=lengths), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_no_race(name, threads):
    model = make(name)
    with threads.instead():
        found = passes(model)
    kind = name.partition("-")[0]
    assert set(threads.sites) >= {f"mb_{kind}_forward", f"mb_{kind}_backward"}
    assert_as_reference(model, found)


@pytest.mark.parametrize(("name", "lengths"), [("ntm", [0, 2]), ("dam", [0, 2]), ("dnc", [0, 2]), ("dnc", [1, 3])])
def test_no_race_where_elements_end_early(name, lengths, threads):
    model = make(name)
    with threads.instead():
        found = passes(model, lengths=lengths)
    assert_as_reference(model, found, lengths)


@pytest.mark.parametrize("name", ["ntm", "dam", "dnc"])
def test_every_removed_barrier_is_detected(name, threads):
    entries = {f"mb_{name}_forward", f"mb_{name}_backward"}
    with threads.instead():
        passes(make(name))
    threads.assert_every_barrier_matters(entries, entries)


@pytest.mark.slow  # the sparse kernels, which search rows, are held to this in the quick tests; here the build takes long
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", ["ntm", "dam", "dnc"])
def test_hostile_inputs_stay_in_bounds(name, value, addresses):
    """NaN and infinity cause no bad access and no hang; the other batch element does not change."""
    model = make(name)
    with addresses.instead():
        clean, found = passes(model), passes(model, poison=value)
    assert torch.equal(found[0][:, 1], clean[0][:, 1])
    if value != value:
        assert bool(found[0][:, 0].isnan().all())


@pytest.mark.slow
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("layer", ["controller.weight_hh", "interface.weight", "interface.bias"])
def test_hostile_weights_stay_in_bounds(layer, value, addresses):
    for name in ("ntm", "dam", "dnc"):
        model = make(name)
        with torch.no_grad():
            model.get_parameter(layer)[::2] = value
        with addresses.instead():
            passes(model)
