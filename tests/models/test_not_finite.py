"""NaN and infinity: native and torch kernels agree on which outputs are finite."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mann_bench.kernels.native import build
from mann_bench.kernels.reference import row_norms
from mann_bench.models import SAM, SDNC

SIZES: dict[str, Any] = {"input_size": 5, "output_size": 3, "hidden": 8, "slots": 64, "word_size": 8, "heads": 2, "reads": 2}
NAN, INF = float("nan"), float("inf")
PARAMETERS = ["controller.weight_ih", "controller.bias_hh", "interface.weight", "interface.bias", "output.weight", "output.bias"]

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")
values = pytest.mark.parametrize("value", [NAN, INF])
indexes = pytest.mark.parametrize("index", ["exact", "live", "lsh"])
kinds = pytest.mark.parametrize("kind", [SAM, SDNC])


def outcomes(kind: Any, index: str, poison: Any, fill: str = "full") -> tuple[Tensor, dict[str, Tensor]]:
    """Return where outputs are finite; both kernels must agree on that and on the state. `poison` changes model, input and state."""
    runs = []
    for kernels in ("torch", "native"):
        torch.manual_seed(0)
        model, x = kind(**SIZES, index=index, kernels=kernels), torch.randn(5, 2, 5)
        state = model.initial_state(2, fill=fill)
        with torch.no_grad():
            poison(model, x, state)
            y, after = model(x, state)
        rows = after.memory.rows
        found = {"read": after.memory.index, "order": rows.ring.order(), "weights": after.memory.weights.isnan()}
        found |= {"reads": after.controller.reads.isnan(), "memory": rows.memory.isnan(), "norms": rows.norms.isnan()}
        if kind is SDNC:
            links = after.memory.links
            found |= {"after": links.after_columns, "before": links.before_columns, "precedence": after.memory.precedence_rows}
            found |= {"after values": links.after_values.isnan(), "before values": links.before_values.isnan()}
            found["precedence values"] = after.memory.precedence_weights.isnan()
        runs.append((y.isfinite(), found))
    (expected_y, expected), (y, found) = runs
    assert torch.equal(y, expected_y)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    return y, found


@values
@indexes
@kinds
def test_in_parameters(kind, index, value):
    for name, fill in itertools.product(PARAMETERS, ("full", "empty") if index == "live" else ("full",)):

        def poison(model: Any, x: Tensor, state: Any, name: str = name) -> None:
            model.get_parameter(name).view(-1)[::3] = value

        finite, _ = outcomes(kind, index, poison, fill)
        if value != value:
            assert not finite.all(dim=-1).any(), (name, fill)


@values
@indexes
@kinds
def test_in_any_one_entry_of_the_interface(kind, index, value):
    """Each entry in turn: queries, strengths, written values, gates and read modes."""
    places = range(0, kind(**SIZES).interface.out_features, 3 if index == "exact" else 11)
    for place in places:

        def poison(model: Any, x: Tensor, state: Any, place: int = place) -> None:
            model.interface.bias[place] = value

        finite, _ = outcomes(kind, index, poison)
        if value != value:
            assert not finite[1:].any(), place


@values
@indexes
@kinds
def test_in_one_input(kind, index, value):
    def poison(model: Any, x: Tensor, state: Any) -> None:
        x[2, 0] = value

    finite, _ = outcomes(kind, index, poison)
    assert bool(finite[:2].all())
    assert bool(finite[:, 1].all())  # the other batch element does not change
    if value != value:
        assert not finite[2:, 0].any()


@values
@indexes
@kinds
def test_in_a_row_of_the_memory(kind, index, value):
    def poison(model: Any, x: Tensor, state: Any) -> None:
        rows = state.memory.rows
        rows.memory[0, 3, 2] = value
        rows.norms.copy_(row_norms(rows.memory))
        rows.index.build(rows)

    finite, _ = outcomes(kind, index, poison)
    assert bool(finite[:, 1].all())
    if index == "exact" or value != value:  # `lsh` holds all of so few rows in one bucket
        assert not finite[:, 0].any()


@kinds
def test_a_read_that_finds_nothing_passes_no_gradient_on(kind):
    """The infinite cell makes the gradient of the first step's read infinite. In most draws a hash index finds no row for it."""
    nothing_found = 0
    for seed in range(6):
        finite = []
        for kernels in ("torch", "native"):
            torch.manual_seed(seed)
            model, x = kind(**{**SIZES, "slots": 257}, index="lsh", kernels=kernels), torch.randn(2, 1, 5)
            with torch.no_grad():
                _, after = model(x[:1], model.initial_state(1))
                nothing_found += bool((after.memory.index < 0).all())
            state = model.initial_state(1)
            state.controller.cell.fill_(INF)
            model(x, state)[0].sum().backward()
            finite.append([name for name, parameter in model.named_parameters() if parameter.grad.isfinite().all()])
        assert finite[0] == finite[1]
    assert nothing_found
