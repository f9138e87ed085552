"""A memory that nobody uses any more is freed at once: at a million slots a few that wait for the garbage collector fill the machine."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.models import MODELS, SPARSE, make

Uses = Callable[[Any, Any, Tensor], object]


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def train(model: Any, state: Any, x: Tensor) -> None:
    y, _ = model(x, state)
    y.square().mean().backward()


def abandon(model: Any, state: Any, x: Tensor) -> None:
    model(x, state)


def skip(model: Any, state: Any, x: Tensor) -> None:
    _, state = model(x, state)
    state.rollback()


def chain(model: Any, state: Any, x: Tensor) -> None:
    y, middle = model(x, state)
    other, _ = model(x, middle)
    (y + other).square().mean().backward()


def truncate(model: Any, state: Any, x: Tensor) -> None:
    for _ in range(3):
        y, state = model(x, state)
        y.square().mean().backward()
        state = state.detach()


def infer(model: Any, state: Any, x: Tensor) -> None:
    with torch.no_grad():
        model(x, state)


def reset(model: Any, state: Any, x: Tensor) -> None:
    y, state = model(x, state)
    other, _ = model(x, model.reset_state(state, [1]))
    (y + other).square().mean().backward()


OF_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in MODELS if name not in ("lstm", "pkm")},  # a PKM's table is a parameter
    "sdm-torch": ("sdm", {"kernels": "torch"}),
    "sam-native, one writer": ("sam-native", {"write_heads": 1}),
    "sam-native, rounded rows": ("sam-native", {"snapshot": "int8"}),
    **{f"{name}, {index}": (name, {"index": index, "slots": 40}) for name in SPARSE for index in ("live", "lsh")},
    **{f"{name}, {index}": (name, {"index": index, "slots": 40}) for name in ("sam", "sdnc") for index in ("faiss-ivf", "faiss-hnsw")},
}
SHARED = [name for name in OF_MODELS if name.startswith(("sam", "sdnc", "sdm"))]


@pytest.mark.parametrize("use", [train, abandon, skip, chain, truncate, infer, reset], ids=lambda use: use.__name__)
@pytest.mark.parametrize("name", OF_MODELS)
def test_memory(name: str, use: Uses) -> None:
    base, options = OF_MODELS[name]
    model = make(base, **options)
    state = model.initial_state(2)
    memories = [weakref.ref(tensor) for tensor in state.memory.tensors()]
    use(model, state, torch.randn(5, 2, 4, dtype=torch.float64))
    model.zero_grad()
    del state
    assert memories
    assert [memory() for memory in memories] == [None] * len(memories)


@pytest.mark.parametrize("name", SHARED)
def test_outputs_hold_the_memory_that_their_backward_needs(name: str) -> None:
    base, options = OF_MODELS[name]
    model, x = make(base, **options), torch.randn(5, 2, 4, dtype=torch.float64, requires_grad=True)
    y, held = model(x)
    wanted = torch.autograd.grad(y.square().mean(), x)
    y = model(x)[0]
    assert all(map(torch.equal, torch.autograd.grad(y.square().mean(), x), wanted))
    del held
