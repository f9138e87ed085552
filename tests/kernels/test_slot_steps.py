"""Native steps that find their slots, against torch's search, weights and gates with a new bank every step; on cpu and emu builds."""

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
from mann_bench.kernels.sequence import delta
from mann_bench.kernels.sequence.delta import Read, Write
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.kernels.sequence.slot_steps import SlotSearch, SlotSteps, SlotWeights
from mann_bench.models.slots.product_keys import scores_of
from tests.kernels.test_delta import close, step_by_step
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


@builds
@pytest.mark.parametrize(("kind", "ends_early"), [*itertools.product(["softmax", "l2"], [False, True])])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_steps_and_all_gradients(size, kind, ends_early, emulate, monkeypatch):
    monkeypatch.setattr(delta, "Build", functools.partial(Build, emulate=emulate))
    axes, sides, writes, reads = size
    found = SlotSearch(sides, writes, reads, kind, 0.7)
    memory, x, weights = problem(axes, found)
    lengths = [axes[0] // 2, axes[0]][: axes[1]] if ends_early else None
    leaves = [part.clone().requires_grad_() for part in (memory, x, *weights)]
    plain = accesses(leaves[1], SlotWeights(*leaves[2:]), found, memory.shape[2], memory.shape[3])
    y, after = step_by_step(leaves[0], *plain, kind == "l2", lengths)
    grad_y, grad_after = torch.randn_like(y), torch.randn_like(after)
    expected = torch.autograd.grad([y, after], leaves, [grad_y, grad_after])

    bank, given = memory.clone(), None if lengths is None else Lengths(tuple(lengths), axes[0])
    steps = SlotSteps(bank, len(x), found, len(weights.interface_bias), x, weighted=kind == "l2", taped=True, lengths=given)
    close(steps.run(x, weights), y)
    close(bank, after)
    assert torch.equal(steps.write.rows, plain[0].rows)
    assert torch.equal(steps.read.rows, plain[1].rows)
    gradient, of_weights = grad_after.clone().flatten(0, 2), weights.zeros()
    of_x = steps.gradients(x, weights, grad_y, gradient, steps.write.rows, steps.read.rows, of_weights)
    assert torch.equal(bank, memory)
    for got, wanted in zip([gradient.view_as(memory), of_x, *of_weights], expected, strict=True):
        close(got, wanted)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["softmax", "l2"])
def test_not_finite_inputs_give_what_torch_gives(bad, kind):
    """Rows in range, whatever the scores are, and what is not finite is not hidden."""
    found = SlotSearch((5, 7), 4, 3, kind, 1.0)
    memory, x, weights = problem((2, 3, 2, 8, 3), found, torch.float32)
    x[0, 1, 2] = bad
    write, read = accesses(x, weights, found, memory.shape[2], memory.shape[3])
    steps = SlotSteps(memory, len(x), found, len(weights.interface_bias), x, weighted=False, taped=False)
    steps.run(x, weights)
    got, expected = (*steps.write, *steps.read), (*write, *read)
    assert all(bool(((rows >= 0) & (rows < memory.shape[:3].numel())).all()) for rows in (steps.write.rows, steps.read.rows))
    for own, wanted in zip(got, expected, strict=True):
        torch.testing.assert_close(own, wanted, equal_nan=True)


def every_call() -> list[Tensor]:
    """Forward and backward of steps whose slots share numbers of their factors."""
    results = []
    for kind in ("softmax", "l2"):
        found = SlotSearch((3, 2), 3, 2, kind, 1.0)
        memory, x, weights = problem((4, 2, 2, 9, 5), found, torch.float32)
        columns, ends = len(weights.interface_bias), Lengths((3, 4), 4)
        steps = SlotSteps(memory, len(x), found, columns, x, weighted=False, taped=True, lengths=ends)
        y, gradient, of_weights = steps.run(x, weights), torch.randn(24, 9), weights.zeros()
        of_x = steps.gradients(x, weights, torch.ones_like(y), gradient, steps.write.rows, steps.read.rows, of_weights)
        results += [y, gradient, of_x, *of_weights, memory]
    return results


@pytest.mark.parametrize("gpu_width", [None, 0], ids=["emu", "gpu"])
def test_no_race_and_every_removed_barrier_is_detected(gpu_width, tmp_path_factory):
    threads = emulator("thread", tmp_path_factory, gpu_width=gpu_width)
    with threads.instead():
        found = every_call()
    for got, expected in zip(found, every_call(), strict=True):
        torch.testing.assert_close(got, expected)
    entries = {"mb_slot_access", "mb_slot_access_back", "mb_slot_weights_back"}
    assert set(threads.sites) >= entries
    if gpu_width is None:
        assert threads.sites["mb_slot_access"]
        assert threads.sites["mb_slot_access_back"]
    assert [site for entry in entries for site in threads.sites[entry] if threads.misses(entry, site)] == []
