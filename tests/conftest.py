"""Every test runs on one thread. Uninitialised memory is filled with NaN, or 123 where numbers are whole, so that a read shows."""

import gc
from collections.abc import Callable, Generator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._device import _device_constructors

from tests.support.commands import call as call  # a fixture of all tests

_device_constructors()  # torch lists once which functions follow `with torch.device(...)`: the real ones, not those of `_plain_torch`


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Garbage collection need not look at what is imported and collected, neither meanwhile nor in each of the tests that call it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _poisoned(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def poison(*args: Any, **kwargs: Any) -> Tensor:
        tensor = allocate(*args, **kwargs)
        if not tensor.is_meta and tensor.numel():
            tensor.data.fill_(float("nan") if tensor.is_floating_point() else 123 if tensor.dtype is not torch.bool else True)
        return tensor

    return poison


@pytest.fixture(autouse=True)
def _plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, _poisoned(getattr(owner, name)))
