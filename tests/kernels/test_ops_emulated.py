"""The single ops on real threads: ThreadSanitizer finds no race, and AddressSanitizer no access out of range with NaN and infinity."""

import functools
from unittest.mock import patch

import pytest
import torch

from mann_bench.kernels import ops
from mann_bench.kernels.native import build, call
from mann_bench.kernels.native.layout import Build
from tests.kernels.test_ops import NAMES, arguments, operator
from tests.support.emulated import Emulator

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


@pytest.fixture(scope="module", params=["thread", "address,undefined"])
def emulator(request, tmp_path_factory):
    try:
        return Emulator(request.param, tmp_path_factory.mktemp("emulated"))
    except build.BuildError as error:
        pytest.skip(f"this compiler has no -fsanitize={request.param}: {error}")


def run_emulated(emulator, name, sound):
    with patch.object(call, "run", emulator.run), patch.object(ops.operator, "Build", functools.partial(Build, emulate=True)):
        return operator(name)(*sound)


def tensors(result):
    return [tensor for tensor in (result if isinstance(result, tuple) else (result,)) if tensor is not None]


@pytest.mark.parametrize("name", NAMES)
def test_no_race_no_stray_access_and_the_same_numbers(name, emulator):
    mine, other = (arguments_of(name) for _ in range(2))
    for got, expected in zip(tensors(run_emulated(emulator, name, mine)), tensors(operator(name)(*other)), strict=True):
        torch.testing.assert_close(got, expected)
    for got, expected in zip(mine, other, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_nan_and_infinity_touch_nothing_else(name, poison, emulator):
    poisoned = [
        torch.where(torch.rand(value.shape) < 0.3, poison, value)
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for value in arguments_of(name)
    ]
    run_emulated(emulator, name, poisoned)


def arguments_of(name):
    torch.manual_seed(0)
    return arguments(name)
