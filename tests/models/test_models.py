"""What holds for every model: gradients, chunks, rollback, misuse, bytes."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from mann_bench.data.case import Case
from mann_bench.measure.memory import measure_pass
from mann_bench.measure.workload import ModelWorkload
from mann_bench.models import sdnc
from tests.support.models import DENSE, MODELS, SPARSE, make


def everything(state: Any) -> list[Tensor]:
    rows = state.memory.rows
    links = state.memory.links.tensors() if hasattr(state.memory, "links") else []
    return [rows.memory.clone(), rows.norms.clone(), rows.ring.order(), torch.tensor(rows.num_candidates), *(t.clone() for t in links)]


class Replay:
    """Calls a function the first time through, and afterwards returns what it returned then."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.returned, self.at = function, [], 0  # type: ignore[var-annotated]

    def __call__(self, *arguments: Any) -> Any:
        if self.at == len(self.returned):
            self.returned.append(self.function(*arguments))
        self.at += 1
        return self.returned[self.at - 1]

    def rewind(self) -> None:
        self.at = 0


@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "sdnc-native"])
def test_gradient_equals_finite_differences(name, fill, monkeypatch):
    """Differences are along random directions in all parameters and the input at once, and in each alone; they are too small to change
    which rows are read.

    SDNC's links are constants for its gradient, so what is read from them is held fixed too; natively that cannot be done: its gradients
    are held against these in test_native.py.
    """
    replay = Replay(sdnc.link_read)
    monkeypatch.setattr(sdnc, "link_read", replay)
    model, x = make(name), torch.randn(6, 2, 4, dtype=torch.float64, requires_grad=True)
    direction_out = torch.randn(6, 2, 3, dtype=torch.float64)

    def loss() -> Tensor:
        replay.rewind()
        return (model(x, model.initial_state(2, fill=fill))[0] * direction_out).sum()

    tensors = [x, *model.parameters()]
    gradients = torch.autograd.grad(loss(), tensors)
    step = 1e-6
    for chosen in [list(range(len(tensors))), *([i] for i in range(len(tensors)))]:
        directions = [torch.randn_like(t) if i in chosen else torch.zeros_like(t) for i, t in enumerate(tensors)]
        ends = []
        for sign in (1, -2, 1):
            with torch.no_grad():
                for tensor, direction in zip(tensors, directions, strict=True):
                    tensor += sign * step * direction
                ends.append(loss())
        slope = float(ends[0] - ends[1]) / (2 * step)
        expected = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", MODELS)
def test_chunks_equal_one_piece(name):
    model, x = make(name), torch.randn(12, 2, 4, dtype=torch.float64)
    whole, _ = model(x, model.initial_state(2, fill="full"))
    whole.sum().backward()
    state, parts = model.initial_state(2, fill="full"), []
    for chunk in x.split(5):
        y, state = model(chunk, state)
        y.sum().backward()
        state = state.detach()
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_state_is_sliced_moved_and_saved(name, tmp_path):
    model, x = make(name), torch.randn(4, 3, 4, dtype=torch.float64)
    with torch.no_grad():
        _, state = model(x, model.initial_state(3, fill="full"))
        torch.save(state, tmp_path / "state.pt")
        loaded = torch.load(tmp_path / "state.pt")
        alone = [model(x[:, b : b + 1], loaded[b : b + 1])[0] for b in range(3)]
        moved, _ = model(x, state.to("cpu"))
        y, _ = model(x, state)
    assert torch.equal(moved, y)
    torch.testing.assert_close(torch.cat(alone, dim=1), y)


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of itself
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "AveragedModel"])
@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in MODELS] + [(name, {option: True}) for name in DENSE for option in ("compiled", "checkpoint")],
    ids=str,
)
def test_a_copy_computes_with_its_own_weights(name, options, way):
    model, x = make(name, **options), torch.randn(3, 2, 4, dtype=torch.float64)
    copies = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model)), "AveragedModel": AveragedModel}
    copied, reference = copies[way](model), make(name)
    reference.load_state_dict(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    with torch.compiler.set_stance("force_eager"):  # the compiled step computes what the plain one does
        y, _ = copied(x)
        y.square().sum().backward()
    assert torch.equal(y, reference(x)[0])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.grad.any() for parameter in copied.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in ("lstm", *DENSE)),
        *((name, {"kernels": kernels}) for name in ("sam", "sdnc") for kernels in ("auto", "torch")),
    ],
    ids=str,
)
def test_converted_to_a_lower_precision_it_trains(name, options, fill, dtype):
    """Outputs are near those in float64. All rows are read, because with fewer, rounding may choose others."""
    plain = make(name, **({**options, "reads": 7} if options else {}))
    lower, x = copy.deepcopy(plain).to(dtype), torch.randn(4, 2, 4, dtype=torch.float64)
    expected, _ = plain(x, plain.initial_state(2, fill=fill))
    y, state = lower(x.to(dtype), lower.initial_state(2, fill=fill))
    assert {tensor.dtype for tensor in (y, *state.tensors()) if tensor.is_floating_point()} == {dtype}
    assert (y.double() - expected).norm() < 0.1 * expected.norm()
    y.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in lower.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_state_none_is_an_empty_memory(name):
    model, x = make(name), torch.randn(3, 2, 4, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(model(x)[0], model(x, model.initial_state(2))[0])


@pytest.mark.parametrize("name", DENSE)
def test_checkpointing_changes_no_number(name):
    plain, kept = make(name), make(name, checkpoint=True)
    kept.load_state_dict(plain.state_dict())
    x = torch.randn(7, 2, 4, dtype=torch.float64)
    grads = []
    for model in (plain, kept):
        model(x, model.initial_state(2, fill="full"))[0].square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_sam_reading_all_rows_reads_what_dam_reads():
    sam, dam = make("sam", reads=7), make("dam")
    dam.load_state_dict(sam.state_dict())
    x = torch.randn(1, 2, 4, dtype=torch.float64)  # in the first step both write to the same rows; later their usages differ
    with torch.no_grad():
        a, sam_state = sam(x, sam.initial_state(2, fill="full"))
        b, dam_state = dam(x, dam.initial_state(2, fill="full"))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    torch.testing.assert_close(sam_state.memory.memory, dam_state.memory.memory, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(SPARSE),
    fill=st.sampled_from(["empty", "full"]),
    slots=st.integers(4, 11),
    heads=st.integers(1, 2),
    reads=st.integers(1, 4),
    steps=st.integers(1, 40),
    erase=st.sampled_from(["always", "gated"]),
)
def test_rollback_is_exact(name, fill, slots, heads, reads, steps, erase):
    model = make(name, word_size=3, slots=slots, heads=heads, reads=reads, erase=erase).float()
    state = model.initial_state(2, fill=fill)
    with torch.no_grad():  # from a used memory
        _, state = model(torch.randn(5, 2, 4), state)
    before = everything(state)
    y, after = model(torch.randn(steps, 2, 4), state)
    middle = everything(after)
    y.sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(before, everything(state), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(middle, everything(after.detach()), strict=True))


@pytest.mark.slow  # the native ones, which are quick: tests/models/test_sam.py
@pytest.mark.parametrize("name", SPARSE)
def test_rollback_of_a_thousand_steps(name):
    model = make(name, word_size=3, slots=9, heads=3, reads=2).float()
    state = model.initial_state(1, fill="full")
    before = everything(state)
    model(torch.randn(1000, 1, 4), state)[0].sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(before, everything(state), strict=True))


def tape_bytes(model: str, slots: int) -> int:
    name, _, kernels = model.partition("-")
    workload = ModelWorkload(Case(suite="s", model=name, kernels=kernels or "torch", slots=slots, steps=4))
    measure_pass(workload, 4)
    return measure_pass(workload, 4).tape_bytes


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_tape_is_constant_in_slots(name):
    small, middle, large = (tape_bytes(name, slots) for slots in (2**10, 2**15, 2**20))
    assert small == middle == large


@pytest.mark.parametrize(("name", "power"), [("ntm", 1), ("dam", 1), ("dnc", 2)])
def test_dense_tape_grows_as_stated(name, power):
    assert tape_bytes(name, 2048) / tape_bytes(name, 1024) == pytest.approx(2**power, rel=0.12)


@pytest.mark.parametrize("name", DENSE)
def test_dense_baselines_keep_one_memory_copy_a_step(name):
    """Bytes a slot and step at W = 256, where the memory outweighs vectors over N and, with N = 64, the links."""
    workload = ModelWorkload(Case(suite="s", model=name, slots=64, word_size=2048, heads=1, steps=9))
    growth = measure_pass(workload, 9).tape_bytes - measure_pass(workload, 8).tape_bytes
    assert growth < 1.5 * 64 * 2048 * 4


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("lstm", "deltanet")])
@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("heads", 0, "heads: expected a whole number >= 1, got 0"),
        ("slots", 3, "slots: expected a whole number >= 4"),
        ("slots", 64.0, "slots: expected a whole number"),
        ("word_size", -1, "word_size: expected a whole number >= 1, got -1"),
        ("hidden", True, "hidden: expected a whole number"),
    ],
)
def test_bad_sizes_name_the_argument(name, argument, value, message):
    if name in ("sdm", "pkm") and value == 3:
        message = "slots: expected a perfect square for product keys of 2 factors, as 1 or 4, got 3"
    with pytest.raises(ValueError, match=message):
        make(name, **{argument: value})


@pytest.mark.parametrize("name", MODELS)
def test_bad_input_is_named_in_the_error(name):
    model = make(name)
    x = torch.randn(3, 2, 4, dtype=torch.float64)
    for bad, message in (
        (x[0], r"x: expected \[T, B, 4\] .*got \[2, 4\]"),
        (x[..., :3], r"got \[3, 2, 3\]"),
        (x.long(), "torch.int64"),
        (x.float(), "torch.float32"),
        (x[:, :0], "T, B >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model(bad)
    with pytest.raises(ValueError, match="state"):
        model(x, model.initial_state(3))
    with pytest.raises(ValueError, match="state"):
        model(x, 7)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sam", {"reads": 8}, "reads: expected at most slots = 7"),
        ("sdnc", {"write_heads": 2}, "write_heads: expected 1"),
        ("sdnc", {"link_entries": 0}, "link_entries: expected a whole number >= 1"),
        ("dam", {"write_heads": 3}, "write_heads: expected 1 or heads = 2"),
        ("dam", {"discount": 1.5}, "discount: expected a number from 0 to 1"),
        ("dnc", {"strength": "huge"}, "strength: expected oneplus or softplus"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        make(name, **options)
