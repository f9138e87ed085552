"""The kernels' text on real threads: ThreadSanitizer finds no race and sees a removed barrier; AddressSanitizer no access out of range."""

from typing import Any

import pytest
import torch

from mann_bench.kernels import build, sequence
from mann_bench.models import SAM, SDNC
from tests.emulated import Emulator, SanitizerError

STEPS = 3
MODELS: dict[str, Any] = {
    "sam": lambda: SAM(**SIZES, heads=3, reads=2),
    "sam-one-writer": lambda: SAM(**SIZES, heads=2, reads=3, write_heads=1, erase="gated", strength=False, index="live"),
    "sdnc": lambda: SDNC(**SIZES, heads=2, reads=3, link_entries=3),
}
SIZES: dict[str, Any] = {"input_size": 3, "output_size": 2, "hidden": 9, "slots": 13, "word_size": 5, "kernels": "native"}

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


@pytest.fixture(scope="module")
def threads(tmp_path_factory):
    return _emulator("thread", tmp_path_factory)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    return _emulator("address,undefined", tmp_path_factory)


def _emulator(sanitizer, tmp_path_factory):
    try:
        return Emulator(sanitizer, tmp_path_factory.mktemp("emulated"))
    except build.BuildError as error:
        pytest.skip(f"this compiler has no -fsanitize={sanitizer}: {error}")


def every_entry(model, fill="full", poison=None):
    """Forward, backward, and a pass undone and made again; returns outputs and gradients. `poison` changes the inputs."""
    torch.manual_seed(1)
    x = torch.randn(STEPS, 2, 3)
    if poison is not None:
        x[1, 0] = poison
    x.requires_grad_()
    state = model.initial_state(2, fill=fill)
    y, after = model(x, state)
    found = [y.detach(), *torch.autograd.grad(y.sum(), [x, *model.parameters()], allow_unused=True)]
    after.detach()  # brings the memory forward again
    _, after = model(x.detach(), after.detach())
    after.memory.rollback()
    return found


@pytest.mark.parametrize("name", MODELS)
def test_no_race(name, threads):
    """And the numbers are those of the reference."""
    torch.manual_seed(0)
    model = MODELS[name]()
    with threads.instead():
        found = every_entry(model)
    assert {"mb_forward", "mb_number_rows", "mb_backward", "mb_undo", "mb_redo"} <= set(threads.sites)
    model.kernels = "torch"
    for a, b in zip(found, every_entry(model), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_no_race_where_many_blocks_search(threads, monkeypatch):
    monkeypatch.setattr(sequence, "search_parts", lambda rows, batch, device: 3)
    torch.manual_seed(0)
    model = MODELS["sam"]()
    with threads.instead():
        found = every_entry(model)
    assert {"mb_forward_step", "mb_search_part"} <= set(threads.sites)
    model.kernels = "torch"
    for a, b in zip(found, every_entry(model), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
