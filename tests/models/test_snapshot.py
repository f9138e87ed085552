"""SAM and SDNC that keep the rows they overwrite rounded: the same outputs, fewer bytes, rows within the stated error."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mann_bench.kernels import ops
from mann_bench.kernels.native import build
from mann_bench.kernels.reference import row_norms
from mann_bench.kernels.reference.snapshot import Snapshot, bytes_a_row
from mann_bench.models import SAM, SDNC
from tests.support.indexes import COPIED
from tests.support.sparse_states import in_place
from tests.support.tape import saved_bytes

SIZES: dict[str, Any] = {"input_size": 3, "output_size": 2, "hidden": 9, "slots": 53, "word_size": 32, "heads": 2, "reads": 3}
MODELS = {"sam": SAM, "sdnc": SDNC}
ERRORS = {"bfloat16": 2**-8, "int8": 1 / 254}  # of each number, of the largest of its row
formats = pytest.mark.parametrize("kind", ERRORS)
native = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


@pytest.fixture(scope="module", params=["torch", "native"])
def kernels(request):
    if request.param == "native" and (reason := build.why_not()):
        pytest.skip(f"no native kernels: {reason}")
    return request.param


def make(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A model with weights so large that gates are not all near 0.5; the same for the same sizes."""
    torch.manual_seed(0)
    model = MODELS[name](**{**SIZES, **options}).to(dtype)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def within(got: Tensor, exact: Tensor, kind: str) -> bool:
    """Whether rows have come back within the stated error."""
    largest = exact.abs() if kind == "bfloat16" else exact.abs().amax(-1, keepdim=True)
    return bool(((got - exact).abs() <= 1.0001 * ERRORS[kind] * largest).all())


@formats
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_row_that_comes_back_and_is_kept_again_comes_back_the_same(dtype, kind):
    rows = torch.randn(4096, 7, dtype=dtype) * 10.0 ** torch.randint(-30, 30, (4096, 1))
    rows[:2] = 0
    once = Snapshot.of(rows, kind).restored(dtype)
    assert within(once, rows, kind)
    assert not once[:2].any()
    assert torch.equal(Snapshot.of(once, kind).restored(dtype), once)


def test_a_row_that_is_not_finite_comes_back_as_nan():
    for number in (float("nan"), float("inf"), -float("inf")):
        back = Snapshot.of(torch.tensor([[1.0, number, -2.0], [1.0, 2.0, -2.0]]), "int8").restored(torch.float32)
        assert back[0].isnan().all()
        assert back[1].tolist() == [Snapshot.of(torch.tensor([[1.0, 2.0]]), "int8").restored(torch.float32)[0, 0], 2.0, -2.0]


@formats
@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_the_same_and_rows_come_back_near(name, kind, kernels):
    """All but rows and their norms comes back to the bit, what was not written too; a second pass rounds nothing further."""
    found, x = [], torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(1))
    for snapshot in ("exact", kind):
        model = make(name, kernels=kernels, snapshot=snapshot)
        state = model.initial_state(2, fill="full")
        before = in_place(state)
        y, after = model(x, state)
        written = after.memory.memory != before["memory"]
        gradients = torch.autograd.grad(y.square().sum(), list(model.parameters()))
        found.append((y, gradients))
        restored = in_place(state)
    (y, wanted), (same_y, gradients) = found
    assert torch.equal(y, same_y)
    unlike = {part for part, tensor in before.items() if not torch.equal(tensor, restored[part])}
    assert unlike == {"memory", "norms"}
    assert within(restored["memory"], before["memory"], kind)
    assert torch.equal(restored["memory"][~written.any(-1)], before["memory"][~written.any(-1)])
    torch.testing.assert_close(restored["norms"], row_norms(restored["memory"]))
    for got, gradient in zip(gradients, wanted, strict=True):
        assert 0 <= (got - gradient).norm() <= 0.02 * gradient.norm() + 1e-6
    assert any(not torch.equal(got, gradient) for got, gradient in zip(gradients, wanted, strict=True))
    rounded = (restored["memory"] != before["memory"]).any(-1)
    model(x, state)[0].sum().backward()
    assert torch.equal(state.memory.memory[rounded], restored["memory"][rounded])
    _, after = model(x, state)
    end = after.memory.memory.clone()
    after.memory.rows.rollback()
    assert torch.equal(state.memory.memory[rounded], restored["memory"][rounded])
    assert within(after.detach().memory.memory, end, kind)


@formats
@pytest.mark.parametrize("name", MODELS)
def test_an_empty_memory_comes_back_to_the_bit(name, kind, kernels):
    model = make(name, kernels=kernels, snapshot=kind)
    state = model.initial_state(2)
    before = in_place(state)
    model(torch.randn(5, 2, 3), state)[0].sum().backward()
    assert all(torch.equal(tensor, in_place(state)[part]) for part, tensor in before.items())


@native
@formats
@pytest.mark.parametrize("options", [{}, {"index": "live", "word_size": 5}, {"heads": 1, "reads": 1, "word_size": 1}], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_chains_padded_batches_resets_and_replays_agree_on_all_kernels(name, options, kind):
    """An element that has ended keeps its rows to the bit; so does one that a reset made empty."""
    found = []
    for kernels in ("native", "torch"):
        model = make(name, torch.float64, **options, kernels=kernels, snapshot=kind)
        x = torch.randn(9, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        state = model.initial_state(3)
        with torch.no_grad():
            state = model(x, state)[1]
        idle = state.memory.memory[1].clone()
        y, middle = model(x, state, [9, 0, 4])
        z, after = model(x, model.reset_state(middle, [2]), [2, 0, 9])
        gradients = torch.autograd.grad(y.square().sum() + z.square().sum(), [x, *model.parameters()])
        restored = state.memory.memory.clone()
        assert torch.equal(restored[1], idle)
        replayed = after.detach().memory
        found.append([y, z, restored, state.memory.rows.norms.clone(), replayed.memory, replayed.rows.norms, *gradients])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)


@native
@formats
def test_copies_follow_the_rows_that_come_back(kind):
    model = make("sam", snapshot=kind, index=COPIED)
    state = model.initial_state(2, fill="full")
    y, after = model(torch.randn(6, 2, 3), state)
    y.sum().backward()
    rows = state.memory.rows
    assert torch.equal(rows.index.byte_rows, ops.byte_rows(rows.memory, rows.norms))
    rows = after.detach().memory.rows
    assert torch.equal(rows.index.byte_rows, ops.byte_rows(rows.memory, rows.norms))


@formats
def test_hash_tables_come_back_to_the_bit(kind, kernels):
    model = make("sam", kernels=kernels, snapshot=kind, index="lsh")
    state = model.initial_state(2, fill="full")
    before = in_place(state)
    model(torch.randn(6, 2, 3), state)[0].sum().backward()
    assert all(torch.equal(tensor, before[f"index {number}"]) for number, tensor in enumerate(state.memory.rows.index.tensors()))


@formats
def test_rows_stored_in_bfloat16(kind, kernels):
    """Two bytes a number keep them as they are; of levels they are what is nearest in bfloat16."""
    model = make("sam", kernels=kernels, storage=torch.bfloat16, snapshot=kind)
    state = model.initial_state(2, fill="full")
    before = state.memory.memory.double()
    for _ in range(2):
        model(torch.randn(6, 2, 3), state)[0].sum().backward()
        difference, largest = (state.memory.memory.double() - before).abs(), before.abs()
        assert torch.equal(difference.amax(), torch.zeros(()).double()) == (kind == "bfloat16")
        assert bool((difference <= 1.0001 / 254 * largest.amax(-1, keepdim=True) + 2**-8 * largest).all())


@pytest.mark.parametrize("name", MODELS)
def test_bytes_of_the_tape(name, kernels):
    """What rounding saves is what is predicted: of native kernels to the byte, but for the norms that need not be kept."""
    steps, batch, kept, predicted = 10, 2, {}, {}
    for kind in ("exact", *ERRORS):
        model = make(name, kernels=kernels, snapshot=kind)
        with saved_bytes() as storages:
            y, after = model(torch.randn(steps, batch, 3), model.initial_state(batch))
        current = after.memory.rows.history.standing[0]
        if kernels == "native":
            kept[kind] = current.sequence.tape.nbytes
        else:
            for write in current.writes:
                parts = (write.rows, write.index, write.erased, write.survives, write.norms, *write.kept)
                storages |= {part.untyped_storage().data_ptr(): part.nbytes for part in parts if part is not None}
            kept[kind] = sum(storages.values())
        predicted[kind] = model.memory_bytes(batch, steps, "train")["tape"]
        y.sum().backward()
    for kind in ERRORS:
        saved, expected = kept["exact"] - kept[kind], predicted["exact"] - predicted[kind]
        entries = model.write_heads * (1 + model.reads * model.heads // model.write_heads)
        if kernels == "native":
            assert saved == expected == steps * batch * entries * (4 * 32 + 4 - bytes_a_row(32, 4, kind))
        else:
            assert saved == pytest.approx(expected, rel=0.2)
