"""SAM and SDNC with 8-bit copies of their rows compute what they do without, to the bit; the copies follow the rows wherever they go."""

from typing import Any

import pytest
import torch

from mann_bench.kernels import ops
from mann_bench.kernels.index import Exact
from mann_bench.kernels.native import build
from mann_bench.kernels.sequence import autograd
from mann_bench.models import SAM, SDNC
from tests.support.indexes import COPIED

SIZES: dict[str, Any] = {"input_size": 3, "output_size": 2, "hidden": 9, "slots": 53, "heads": 2, "reads": 3}
NAN = float("nan")

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


def assert_follows(state):
    """The copies are those of the rows as they are now."""
    rows = state.memory.rows
    assert torch.equal(rows.index.byte_rows, ops.byte_rows(rows.memory, rows.norms))


def two(kind, **options):
    """The same model with copies and without."""
    models = []
    for index in (COPIED, "exact-scan"):
        torch.manual_seed(0)
        models.append(kind(**{**SIZES, "word_size": 5, "index": index, **options}))
    return models


@pytest.mark.parametrize("kind", [SAM, SDNC])
@pytest.mark.parametrize("fill", ["full", "empty"])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(
    "options", [{}, {"word_size": 32}, {"storage": torch.bfloat16, "word_size": 7}], ids=["any width", "known width", "bfloat16"]
)
def test_the_same_to_the_bit(kind, fill, parts, options, monkeypatch):
    """Outputs, states, gradients; after backward, replay and a pass with elements that end early the copies are those of the rows."""
    monkeypatch.setattr(autograd, "search_parts", lambda *sizes: parts)
    runs = []
    for model in two(kind, **options):
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(11, 3, 3, generator=generator)
        state = model.initial_state(3, fill=fill, seed=1)
        with torch.no_grad():
            _, state = model(x, state)
        y, after = model(2 * x, state)
        outcome = [y, after.memory.index, after.memory.weights, after.memory.memory.clone()]
        y.sum().backward()
        outcome += [state.memory.memory.clone(), *(parameter.grad for parameter in model.parameters())]
        if model.index == COPIED:
            assert_follows(state)
        after = after.detach()
        if model.index == COPIED:
            assert_follows(after)
        with torch.no_grad():
            y, after = model(x, after, torch.tensor([11, 0, 4]))
        runs.append([*outcome, y, after.memory.index, after.memory.memory])
    for copied, scanned in zip(*runs, strict=True):
        assert torch.equal(copied, scanned)


def test_float64():
    runs = []
    for model in two(SAM):
        model.double()
        y, after = model(torch.ones(9, 2, 3, dtype=torch.float64), model.initial_state(2, fill="full"))
        runs.append([y, after.memory.index])
    assert all(map(torch.equal, *runs))


@pytest.mark.parametrize("value", [NAN, float("inf"), 1e30])
def test_a_row_that_has_no_bound_is_found(value):
    runs = []
    for model in two(SAM):
        state = model.initial_state(2, fill="full")
        rows = state.memory.rows
        rows.memory[0, 30, 2] = value
        rows.norms[0, 30] = rows.memory[0, 30].square().sum().add(1e-6).sqrt()
        rows.index.build(rows)
        with torch.no_grad():
            y, after = model(torch.ones(5, 2, 3), state)
        runs.append([y.isnan(), after.memory.index])
    assert all(map(torch.equal, *runs))
    assert bool(runs[0][0].any()) == (value != 1e30)


def test_copies_go_where_the_state_goes(tmp_path):
    """Copied, narrowed, saved, moved, converted, reset and run step by step."""
    model, _ = two(SAM)
    x = torch.randn(6, 3, 3)
    with torch.no_grad():
        _, state = model(x, model.initial_state(3))
        torch.save(state, tmp_path / "state.pt")
        loaded = torch.load(tmp_path / "state.pt")
        assert_follows(loaded)
        assert_follows(state[1:3])
        assert_follows(state.to("cpu"))
        assert_follows(state.to(dtype=torch.float64))
        narrow = state.first(2)
        _, narrow = model(x[:, :2], narrow)
        assert_follows(narrow)
        assert narrow.memory.rows.index.byte_rows.data_ptr() == state.memory.rows.index.byte_rows.data_ptr()
        _, state = model(x, state)  # takes the narrow pass back
        assert_follows(state)
        before = state
        state = model.reset_state(state, [0, 2])
        assert_follows(state)
        assert not torch.equal(state.memory.rows.index.byte_rows, loaded.memory.rows.index.byte_rows)
    y, _ = model(x, state)
    with torch.no_grad():
        state.rollback()
    assert_follows(state)
    del y, before


def test_a_reset_is_taken_back_with_its_pass():
    model, _ = two(SAM)
    x = torch.randn(6, 2, 3)
    state = model.initial_state(2)
    y, after = model(x, state)
    later, _ = model(x, model.reset_state(after, [1]))
    (y.sum() + later.sum()).backward()
    assert_follows(state)


def test_a_pass_run_step_by_step_keeps_copies():
    """An index that native kernels made goes with its state to a model that torch runs."""
    model, _ = two(SAM)
    state = model.initial_state(2, fill="full")
    model.kernels = "torch"
    y, after = model(torch.randn(4, 2, 3), state)
    assert_follows(after)
    y.sum().backward()
    assert_follows(state)


def test_exact_has_copies_from_a_number_of_rows_on(monkeypatch):
    monkeypatch.setattr(Exact, "bounded_from", {"cpu": 60, "meta": 60})
    sizes: dict[str, dict[str, Any]] = {
        "copied": {},
        "scanned": {"index": "exact-scan"},
        "few": {"slots": 59},
        "torch": {"kernels": "torch"},
        "wide": {"word_size": 4097},
        "live": {"index": "live"},
    }
    state_bytes = {}
    for name, changed in sizes.items():
        model = SAM(**{**SIZES, "slots": 60, "word_size": 5, **changed})
        state = model.initial_state(2)
        state_bytes[name] = state.size_bytes
        assert bool(state.memory.rows.index.tensors()) == (name == "copied")
        if name in ("copied", "few"):
            assert model.memory_bytes(2, 3, "train")["state"] == state.size_bytes
            assert model.to("meta").memory_bytes(2, 3, "train")["state"] == state.size_bytes  # as a plan predicts it
    copies = 2 * 8 * (2 + 1) * 8 * 4  # of 2 elements, 8 blocks of 8 rows, each 2 words of bytes and one of scale and error
    assert state_bytes["copied"] - state_bytes["scanned"] == copies
