"""States: detached, moved, sliced, saved, measured, and made in little more memory than they take."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mann_bench.kernels.reference import row_norms
from mann_bench.measure.trace import recording
from mann_bench.models import DAM, DNC, NTM, SAM, SDNC
from mann_bench.models.sparse.memory import norms_in_blocks
from mann_bench.models.state import initial_rows
from tests.support.models import MODELS, SPARSE, make


def test_detach_slice_move_and_size():
    model = NTM(input_size=4, output_size=3, slots=8, heads=1, word_size=5, hidden=6)
    _, state = model(torch.randn(2, 3, 4))
    assert state.memory.memory.requires_grad
    assert not any(t.requires_grad for t in state.detach().tensors())
    assert state[1:2].memory.memory.shape == (1, 8, 5)
    assert state.to(dtype=torch.float64).controller.hidden.dtype == torch.float64
    assert state.size_bytes == model.memory_bytes(3, 2, "infer")["state"]


def test_rows_are_seeded_and_of_unit_scale():
    rows = initial_rows(2, 500, 32, "full", 4, "cpu", torch.float32)
    assert torch.equal(rows, initial_rows(2, 500, 32, "full", 4, "cpu", torch.float32))
    assert abs(float(rows.norm(dim=-1).mean()) - 1) < 0.02
    assert not torch.equal(rows[0], rows[1])
    assert not initial_rows(1, 5, 2, "empty", 0, "cpu", torch.float32).any()


@pytest.mark.parametrize(("device", "drawn_on"), [("cpu", "cpu"), ("meta", "cpu"), ("cuda:1", "cuda:1")])
def test_rows_of_a_gpu_are_drawn_there(device, drawn_on, monkeypatch):
    generators, drawn = [], []

    class Rows:
        """What stands for a tensor on the device."""

        shape = (3, 4)

        def __init__(self, *shape, device, dtype):
            self.device = torch.device(device)

        def __iter__(self):
            return iter([self, self])

        def split(self, rows):
            return [self]

        def copy_(self, values):
            drawn.append((str(values.device), values.shape))

        def mul_(self, factor):
            return self

    def generator(device):
        generators.append(str(device))
        return SimpleNamespace(manual_seed=lambda seed: None)

    monkeypatch.setattr("mann_bench.models.state.on_huge_pages", lambda tensor: tensor)
    monkeypatch.setattr(torch, "empty", Rows)
    monkeypatch.setattr(torch, "Generator", generator)
    monkeypatch.setattr(torch, "randn", lambda shape, *, generator, dtype, device: Rows(device=device, dtype=dtype))
    initial_rows(2, 3, 4, "full", 0, device, torch.float32)
    assert drawn == [(drawn_on, (3, 4))] * 2
    assert generators == [drawn_on]


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_state_is_loaded_by_the_default_of_torch(name):
    """`torch.load` refuses every class that was not declared safe."""
    model, x = make(name), torch.randn(3, 2, 4, dtype=torch.float64)
    with torch.no_grad():
        _, state = model(x, model.initial_state(2, fill="full"))
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        assert torch.equal(model(x, torch.load(file))[0], model(x, state)[0])


@pytest.mark.parametrize("name", ["sam", "sdnc"])
def test_rows_stored_in_a_type_of_their_own_keep_it(name):
    model = make(name, storage=torch.bfloat16).float()
    state = model.initial_state(2, fill="full").to(dtype=torch.float64)
    assert state.memory.memory.dtype == torch.bfloat16
    others = [tensor for tensor in state.tensors() if tensor.is_floating_point() and tensor is not state.memory.memory]
    assert {tensor.dtype for tensor in others} == {torch.float64}
    model.double()(torch.randn(3, 2, 4, dtype=torch.float64), state)[0].sum().backward()
    whole = make(name).bfloat16().initial_state(2).to(dtype=torch.float64)
    assert {tensor.dtype for tensor in whole.tensors() if tensor.is_floating_point()} == {torch.float64}


LARGE: dict[str, Any] = {"input_size": 3, "output_size": 2, "hidden": 4, "heads": 1}
LARGE_MODELS: dict[str, Any] = {
    "ntm": (NTM, {"slots": 2**19, "word_size": 8}),
    "ntm-learned": (NTM, {"slots": 2**19, "word_size": 8, "learned_start": True}),
    "dam": (DAM, {"slots": 2**19, "word_size": 8}),
    "dnc": (DNC, {"slots": 2**10}),
    "sam": (SAM, {"slots": 2**20, "reads": 2, "storage": torch.bfloat16}),
    "sdnc": (SDNC, {"slots": 2**19, "reads": 2, "link_entries": 1, "storage": torch.bfloat16}),
}


@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize("lower", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", LARGE_MODELS)
def test_making_a_state_takes_little_more_than_it_holds(name, lower, fill):
    kind, sizes = LARGE_MODELS[name]
    model = kind(**LARGE, **sizes).to(torch.bfloat16 if lower else torch.float32)
    with torch.no_grad(), recording("cpu") as trace:
        state = model.initial_state(1, fill=fill)
    assert max(total for _, total in trace.totals) <= 1.5 * state.size_bytes


def test_norms_in_blocks_are_those_of_all_rows():
    rows = initial_rows(2, 2**16 + 3, 5, "full", 0, "cpu", torch.bfloat16)
    assert torch.equal(norms_in_blocks(rows, torch.float32), row_norms(rows.float()))
    assert norms_in_blocks(rows, torch.float64).dtype == torch.float64


@pytest.mark.parametrize("name", SPARSE)
def test_a_copy_is_searched_by_kernels_of_the_same_kind(name):
    state = make(name).initial_state(3)
    assert state[:2].memory.rows.index.native is state.memory.rows.index.native
