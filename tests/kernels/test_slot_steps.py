"""Native steps of the gated delta rule that find their slots, against torch's search, weights and gates with a new bank every step; on cpu
and emu builds."""

import functools
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.native import build
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.reference import search
from mann_bench.kernels.sequence import slot_steps
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.kernels.sequence.slot_shapes import SlotSearch, table_size
from mann_bench.kernels.sequence.slot_steps import BankGradient, SlotSteps, SlotWeights
from mann_bench.models.slots.access import Read, Write
from mann_bench.models.slots.product_keys import scores_of
from tests.kernels.test_emulated import emulator

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")

# T, B, R, W, X, then the sides of the factors, Kw and Kr: ones, primes, a common word size, three factors, all slots
SIZES = [
    ((1, 1, 1, 1, 1), (1,), 1, 1),
    ((5, 2, 3, 5, 3), (3, 4), 3, 2),
    ((4, 2, 2, 32, 7), (7, 7), 4, 4),
    ((6, 1, 2, 37, 11), (2, 3, 2), 5, 12),
]
builds = pytest.mark.parametrize("emulate", [False, True], ids=["cpu", "emu"])


def problem(size: Any, found: SlotSearch, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, SlotWeights]:
    """A bank, inputs and weights."""
    steps, batch, heads, width, inputs = size
    torch.manual_seed(0)
    columns = heads * (2 * sum(found.sides) + width + 2)
    weights = SlotWeights(torch.randn(columns, inputs), torch.randn(columns), torch.rand(heads), torch.randn(heads))
    bank = torch.randn(batch, heads, math.prod(found.sides), width, dtype=dtype)
    return bank, torch.randn(steps, batch, inputs, dtype=dtype), SlotWeights(*(part.to(dtype) for part in weights))


def accesses(x: Tensor, weights: SlotWeights, found: SlotSearch, slots: int, width: int) -> tuple[Write, Read]:
    """The same as torch makes it of the interface vectors."""
    heads, scores = len(weights.log_decay), sum(found.sides)
    interface = functional.linear(x, weights.interface_weight, weights.interface_bias)
    writes, reads, values, decay, strength = interface.split([heads * scores, heads * scores, heads * width, heads, heads], -1)
    first = torch.arange(x.shape[1] * heads).view(x.shape[1], heads, 1) * slots

    def address(part: Tensor, count: int) -> tuple[Tensor, Tensor]:
        part = part.unflatten(-1, (heads, scores))
        rows = search(part, found.sides, count)
        own = scores_of(part, found.sides, rows)
        return first + rows, torch.softmax(found.scale * own, -1) if found.weights == "softmax" else functional.normalize(own, dim=-1)

    gates = -weights.log_decay.exp() * functional.softplus(decay + weights.step_bias), torch.sigmoid(strength)
    return Write(*address(writes, found.writes), values.unflatten(-1, (heads, width)), *gates), Read(*address(reads, found.reads))


def step_by_step(memory: Tensor, write: Write, read: Read, weighted: bool, lengths: list[int] | None) -> tuple[Tensor, Tensor]:
    """The equations, with a new bank every step."""
    flat, found = memory.flatten(0, 2), []
    for step in range(len(write.rows)):
        rows, k, v, g, beta = (part[step] for part in write)
        share = torch.exp(g.unsqueeze(-1) * k if weighted else g.unsqueeze(-1).expand_as(k)).unsqueeze(-1)
        decayed = share * flat[rows]
        error = v - (k.unsqueeze(-1) * decayed).sum(-2)
        new = decayed + k.unsqueeze(-1) * (beta.unsqueeze(-1) * error).unsqueeze(-2)
        going = torch.tensor([lengths is None or step < length for length in lengths or [0] * len(memory)]).view(-1, 1, 1)
        flat = flat.index_put((rows,), torch.where(going.unsqueeze(-1), new, flat[rows]))
        y = (read.weights[step].unsqueeze(-1) * flat[read.rows[step]]).sum(-2)
        found.append(torch.where(going, y, torch.zeros_like(y)))
    return torch.stack(found), flat.view_as(memory)


def make(
    bank: Tensor,
    x: Tensor,
    weights: SlotWeights,
    found: SlotSearch,
    *,
    weighted: bool = False,
    taped: bool = True,
    snapshot: str = "exact",
    lengths: Lengths | None = None,
) -> SlotSteps:
    return SlotSteps(bank, len(x), found, weights, x.shape[2], weighted=weighted, taped=taped, snapshot=snapshot, lengths=lengths)


def gradient_of(steps: SlotSteps, rows: Tensor) -> BankGradient:
    """The gradient of a bank, [B, R, N, W], as a pass would leave it that touched all rows."""
    slots = rows.shape[2]
    gradient, size = BankGradient([steps]), table_size(slots)
    table = torch.full((2, size), -1, dtype=torch.int32)
    for row in range(slots):
        place = (row * 2654435769 % 2**32) % size
        while table[0, place] >= 0:
            place = (place + 1) % size
        table[:, place] = row
    gradient.sizes |= {"table_size": size, "touched_stride": slots, "continued": 1}
    gradient.buffers["slot_hash"] = table.expand(*rows.shape[:2], -1, -1).contiguous()
    gradient.buffers["touched_count"].fill_(slots)
    gradient.buffers["row_gradient"] = rows.clone()
    return gradient


def part(steps: SlotSteps, name: str, *shape: int) -> Tensor:
    """A buffer of its tape."""
    block = steps.plan.blocks["tape"]
    first_byte, dtype = dict(block.buffers)[name], getattr(torch, steps.plan.build.dtype(name))
    return steps.tape.view(torch.uint8)[first_byte : first_byte + math.prod(shape) * dtype.itemsize].view(dtype).view(shape)


def accesses_of(steps: SlotSteps, found: SlotSearch, x: Tensor) -> tuple[Write, Read]:
    """What the steps wrote and read, on their tape."""
    _, heads, _, width = steps.memory.shape
    axes = *x.shape[:2], heads
    rows, weights = (part(steps, f"delta_{name}", *axes, found.writes) for name in ("rows", "weights"))
    values = part(steps, "delta_values", *axes, width)
    gates = part(steps, "delta_decay", *axes), part(steps, "delta_strength", *axes)
    reads = (part(steps, f"delta_{name}", *axes, found.reads) for name in ("reads", "read_weights"))
    return Write(rows, weights, values, *gates), Read(*reads)


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected.detach(), rtol=1e-9, atol=1e-11)


@builds
@pytest.mark.parametrize(("kind", "weighted", "ends_early"), [*itertools.product(["softmax", "l2"], [False, True], [False, True])])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_steps_their_undo_and_all_gradients(size, kind, weighted, ends_early, emulate, monkeypatch):
    monkeypatch.setattr(slot_steps, "Build", functools.partial(Build, emulate=emulate))
    axes, sides, writes, reads = size
    found = SlotSearch(sides, writes, reads, kind, 0.7)
    memory, x, weights = problem(axes, found)
    lengths = [axes[0] // 2, axes[0]][: axes[1]] if ends_early else None
    leaves = [tensor.clone().requires_grad_() for tensor in (memory, x, *weights)]
    plain = accesses(leaves[1], SlotWeights(*leaves[2:]), found, memory.shape[2], memory.shape[3])
    y, after = step_by_step(leaves[0], *plain, weighted, lengths)
    grad_y, grad_after = torch.randn_like(y), torch.randn_like(after)
    expected = torch.autograd.grad([y, after], leaves, [grad_y, grad_after], retain_graph=True)
    alone = torch.autograd.grad(y, leaves[1:], grad_y)

    bank, given = memory.clone(), None if lengths is None else Lengths(tuple(lengths), axes[0])
    steps = make(bank, x, weights, found, weighted=weighted, lengths=given)
    close(steps.run(x, weights), y)
    close(bank, after)
    write, read = accesses_of(steps, found, x)
    assert torch.equal(write.rows, plain[0].rows)
    assert torch.equal(read.rows, plain[1].rows)
    end = bank.clone()
    steps.undo()
    assert torch.equal(bank, memory)
    steps.redo()
    assert torch.equal(bank, end)
    gradient, of_weights = gradient_of(steps, grad_after), weights.zeros()
    of_x = steps.gradients(x, weights, grad_y, gradient, of_weights)
    assert torch.equal(bank, memory)
    for got, wanted in zip([gradient.buffers["row_gradient"], of_x, *of_weights], expected, strict=True):
        close(got, wanted)

    steps.redo()
    of_weights = weights.zeros()
    of_x = steps.gradients(x, weights, grad_y, None, of_weights)  # as a pass of its own
    for got, wanted in zip([of_x, *of_weights], alone, strict=True):
        close(got, wanted)
    untaped = make(bank, x, weights, found, weighted=weighted, taped=False, lengths=given)
    close(untaped.run(x, weights), y)
    assert torch.equal(bank, end)


@builds
def test_calls_go_on_with_the_gradient_of_those_after_them(emulate, monkeypatch):
    """The second call is over the first elements only, and touches other rows than the first."""
    monkeypatch.setattr(slot_steps, "Build", functools.partial(Build, emulate=emulate))
    found = SlotSearch((5, 7), 3, 2, "softmax", 1.0)
    memory, x, weights = problem((6, 3, 2, 5, 4), found)
    leaves = [tensor.clone().requires_grad_() for tensor in (memory, x, *weights)]
    write, read = accesses(leaves[1], SlotWeights(*leaves[2:]), found, 35, 5)
    lengths = [6, 6, 4]
    y, _ = step_by_step(leaves[0], write, read, False, lengths)
    expected = torch.autograd.grad(y.square().sum(), leaves)

    bank = memory.clone()
    first, second = make(bank, x[:4], weights, found), make(bank[:2], x[4:, :2], weights, found)
    ys = first.run(x[:4], weights), second.run(x[4:, :2].contiguous(), weights)
    gradient, of_weights = BankGradient([second, first]), weights.zeros()
    of_x = torch.zeros_like(x)
    of_x[4:, :2] = second.gradients(x[4:, :2].contiguous(), weights, 2 * ys[1], gradient, of_weights)
    of_x[:4] = first.gradients(x[:4], weights, 2 * ys[0], gradient, of_weights)
    assert torch.equal(bank, memory)
    rows, values = gradient.of_rows(35)
    assert len(rows.unique()) == len(rows) < memory.shape[:3].numel()
    close(torch.zeros(memory.shape[:3].numel(), 5, dtype=x.dtype).index_copy_(0, rows, values).view_as(memory), expected[0])
    for got, wanted in zip([of_x, *of_weights], expected[1:], strict=True):
        close(got, wanted)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["softmax", "l2"])
def test_not_finite_inputs_give_what_torch_gives(bad, kind):
    """Rows in range, whatever the scores are, and what is not finite is not hidden."""
    found = SlotSearch((5, 7), 4, 3, kind, 1.0)
    memory, x, weights = problem((2, 3, 2, 8, 3), found, torch.float32)
    x[0, 1, 2] = bad
    write, read = accesses(x, weights, found, memory.shape[2], memory.shape[3])
    steps = make(memory, x, weights, found, taped=False)
    steps.run(x, weights)
    own_write, own_read = accesses_of(steps, found, x)
    got, expected = (*own_write, *own_read), (*write, *read)
    assert all(bool(((rows >= 0) & (rows < memory.shape[:3].numel())).all()) for rows in (own_write.rows, own_read.rows))
    for own, wanted in zip(got, expected, strict=True):
        torch.testing.assert_close(own, wanted, equal_nan=True)


def every_call() -> list[Tensor]:
    """Every entry point, of steps whose slots share numbers of their factors and that meet in the same rows."""
    results = []
    for kind, snapshot in (("softmax", "exact"), ("l2", "int8"), ("softmax", "bfloat16")):
        found = SlotSearch((3, 2), 3, 2, kind, 1.0)
        memory, x, weights = problem((4, 2, 2, 9, 5), found, torch.float32)
        steps = make(memory, x, weights, found, weighted=kind == "l2", snapshot=snapshot, lengths=Lengths((3, 4), 4))
        y, gradient, of_weights = steps.run(x, weights), BankGradient([steps]), weights.zeros()
        of_x = steps.gradients(x, weights, torch.ones_like(y), gradient, of_weights)
        steps.redo()
        steps.undo()
        rows, values = gradient.of_rows(6)
        results += [y, values[rows.argsort()], of_x, *of_weights, memory]
    return results


@pytest.mark.parametrize("gpu_width", [None, 0], ids=["emu", "gpu"])
def test_no_race_and_every_removed_barrier_is_detected(gpu_width, tmp_path_factory):
    threads = emulator("thread", tmp_path_factory, gpu_width=gpu_width)
    with threads.instead():
        found = every_call()
    for got, expected in zip(found, every_call(), strict=True):
        torch.testing.assert_close(got, expected)
    access = {"mb_slot_access", "mb_slot_access_back", "mb_slot_weights_back"}
    delta = {"mb_delta_forward", "mb_delta_backward", "mb_delta_undo", "mb_delta_redo"}
    in_text = {"mb_slot_access", "mb_slot_access_back", "mb_delta_backward"}  # on a GPU the barriers are those of warps
    threads.assert_every_barrier_matters(access | delta, in_text if gpu_width is None else set())
