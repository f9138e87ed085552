"""Torch's default device and number type change nothing: every model, op, index and task gives the same numbers for the same seed."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.data.registry import BUILT_INS, KINDS, import_target
from mann_bench.kernels.index import INDEXES, find_index
from mann_bench.measure.workload import ModelWorkload, make_workload
from mann_bench.suites.tasks import TASKS, associative_recall, babi, find_task, omniglot
from tests.suites import test_babi, test_omniglot

SIZES: dict[str, Any] = {"suite": "s", "slots": 49, "word_size": 8, "hidden": 9, "heads": 2, "reads": 3, "steps": 4, "batch": 2}
ARCHIVES: dict[str, tuple[str, Callable[..., Any]]] = {  # made-up data for each task that reads data
    "omniglot": ("images_background.zip", test_omniglot.write_archive),
    "babi": ("tasks_1-20_v1-2.tar.gz", test_babi.write_archive),
}


@contextmanager
def torch_defaults(device: str | None = None, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    torch.set_default_device(device)
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


CHANGED = {"device": {"device": "meta"}, "dtype": {"dtype": torch.float64}}  # a meta tensor has no numbers: a read of it fails
changed = pytest.mark.parametrize("defaults", CHANGED.values(), ids=CHANGED)


def kernels_of(uses_index: bool) -> tuple[str, ...]:
    return ("torch", "native") if uses_index else ("auto",)


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype, name
        assert got[name].device == tensor.device, name
        assert torch.equal(got[name].nan_to_num(7), tensor.nan_to_num(7)), name


@changed
@pytest.mark.parametrize(
    ("name", "kernels"), [(name, kernels) for name, entry in BUILT_INS.items() for kernels in kernels_of(entry.uses_index)]
)
def test_models(name, kernels, defaults):
    """Parameters lie where torch's defaults say, as of every module; a state lies where the parameters lie."""
    workload = ModelWorkload(Case(**SIZES, model=name, kernels=kernels))

    def observed() -> dict[str, Tensor]:
        model: Any = workload.model
        model.zero_grad()
        state = model.initial_state(2, fill="full", seed=3)
        tensors = {f"start {number}": tensor.clone() for number, tensor in enumerate(state.tensors())}
        inputs, targets, mask = workload.sequences(4)
        y, _ = model(inputs, state)
        (y - targets).square().sum().backward()
        gradients = {name: parameter.grad.to_dense() for name, parameter in model.named_parameters() if parameter.grad is not None}
        return tensors | {"inputs": inputs, "targets": targets, "mask": mask, "y": y.detach()} | gradients

    expected = observed()
    with torch_defaults(**defaults):
        assert_same(observed(), expected)


def workload_cases() -> Iterator[Any]:
    for kind, target in KINDS.items():
        for name in import_target(kind, target).names():
            for index in INDEXES if kind == "index" else ("exact",):
                for kernels in kernels_of(uses_index=kind == "op" or find_index(index).in_sequence):
                    yield pytest.param(
                        Case(**SIZES, model=f"{kind}:{name}", index=index, kernels=kernels), id=f"{kind}-{name}-{index}-{kernels}"
                    )


@changed
@pytest.mark.parametrize("case", list(workload_cases()))
def test_ops_and_indexes(case, defaults):
    if missing := find_index(case.index).why_not():
        pytest.skip(missing)

    def observed() -> dict[str, Tensor]:
        workload = make_workload(case)
        return {**workload.observables(), **{f"input {number}": tensor for number, tensor in enumerate(workload.input_tensors())}}

    expected = observed()
    with torch_defaults(**defaults):
        assert_same(observed(), expected)


@changed
@pytest.mark.parametrize("name", TASKS)
def test_tasks(name, defaults, tmp_path):
    data = None
    if "data" in inspect.signature(import_target("task", TASKS[name])).parameters:
        file, write = ARCHIVES[name]
        data = write(tmp_path / file)

    def observed() -> dict[str, Tensor]:
        for load in (babi.load, omniglot.load):
            load.cache_clear()
        task = find_task(name, data)
        batches = [task.sample(level, 3, torch.Generator("cpu").manual_seed(2)) for level in (task.first_level, task.levels[1])]
        batches += [*(task.held_out().every(5) or ())][:2]
        tensors: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            y = (batch.inputs.sum(-1, keepdim=True) + torch.arange(task.output_size, device="cpu")).sin()
            held = {**vars(batch), "y": y, "wrong": task.wrong(y, batch), "loss": task.loss(y, batch), "due": task.due(batch)}
            tensors |= {f"{number} {key}": value for key, value in held.items() if value is not None}
        return tensors

    expected = observed()
    with torch_defaults(**defaults):
        assert_same(observed(), expected)


@changed
def test_the_benchmark_task(defaults):
    def observed() -> dict[str, Tensor]:
        return dict(zip(("inputs", "targets", "mask"), associative_recall(2, 9, 10, seed=1), strict=True))

    expected = observed()
    with torch_defaults(**defaults):
        assert_same(observed(), expected)
