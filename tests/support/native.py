"""What holds of every native model: its calls are sound torch operators, and on fake tensors it has the right shapes."""

from typing import Any

import torch

from mann_bench.kernels.native.call import call
from mann_bench.kernels.native.layout import Layout
from mann_bench.kernels.sequence import recurrence


def assert_sound_operators(model, entries, monkeypatch):
    """Assert that a pass and its backward make these native calls, and that each passes torch's check of operators."""
    calls: list[tuple[Any, ...]] = []

    def record(entry: str, layout: Layout, inputs: Any, buffers: Any, sizes: Any) -> None:
        calls.append((entry, layout.text, [tensor.clone() for tensor in inputs], [tensor.clone() for tensor in buffers], list(sizes)))
        call(entry, layout, inputs, buffers, sizes)

    monkeypatch.setattr(recurrence, "call", record)
    model(torch.randn(3, 2, model.input_size))[0].sum().backward()
    assert [arguments[0] for arguments in calls] == entries
    for arguments in calls:
        torch.library.opcheck(torch.ops.mann_bench.native.default, arguments, test_utils=("test_schema", "test_faketensor"))


def assert_shapes(model):
    """Assert the shapes of outputs and gradients of a pass."""
    y, _ = model(torch.zeros(4, 2, model.input_size), model.initial_state(2))
    y.sum().backward()
    assert y.shape == (4, 2, model.output_size)
    assert all(parameter.grad.shape == parameter.shape for parameter in model.parameters())
