"""Product-key search and native steps of the gated delta rule, against brute force and autograd; on the cpu and emu builds."""

import functools
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mann_bench.kernels import ops, reference
from mann_bench.kernels.native import build
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.sequence import delta
from mann_bench.kernels.sequence.delta import DeltaSteps, Read, Write
from mann_bench.kernels.sequence.lengths import Lengths
from tests.kernels.test_emulated import emulator

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")

# T, B, R, N, W, Kw, Kr: ones, primes, a common word size, all slots
SIZES = [(1, 1, 1, 1, 1, 1, 1), (5, 2, 3, 7, 5, 3, 2), (4, 2, 2, 50, 32, 4, 4), (6, 1, 1, 5, 37, 5, 5)]
SIDES = [((1, 1), 1), ((8, 8), 4), ((5, 7, 3), 10), ((64,), 9), ((37, 41), 64), ((16, 16), 256)]
builds = pytest.mark.parametrize("emulate", [False, True], ids=["cpu", "emu"])


@builds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("sides", "count"), SIDES, ids=str)
def test_search_finds_the_slots_that_a_sort_of_all_would(sides, count, dtype, emulate, monkeypatch):
    monkeypatch.setattr(ops.operator, "Build", functools.partial(Build, emulate=emulate))
    scores = torch.randn(40, sum(sides), dtype=dtype)
    scores[10:] = (scores[10:] * 2).round() / 2  # equal ones
    scores[20::3, ::5], scores[21::3, 1::7], scores[22::3, 2::9] = math.nan, -math.inf, math.inf
    assert torch.equal(ops.product_keys(scores, sides, count), reference.search(scores, sides, count))
    if not emulate:
        sums = functools.reduce(lambda a, b: (a.unsqueeze(-1) + b.unsqueeze(-2)).flatten(-2), scores[:10].split(list(sides), -1))
        assert torch.equal(ops.product_keys(scores[:10], sides, count), sums.topk(count).indices)  # no two are equal


@pytest.mark.parametrize(
    ("scores", "count"), [(torch.zeros(3, 9), 2), (torch.zeros(3, 8), 17), (torch.zeros(3, 8), 0), (torch.tensor(1.0), 1)]
)
def test_search_names_what_is_wrong(scores, count):
    with pytest.raises(ValueError, match="product_keys: scores: expected"):
        ops.product_keys(scores, (4, 4), count)


def accesses(size: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Write, Read]:
    """A bank, and random writes and reads."""
    steps, batch, heads, slots, width, writes, reads = size
    torch.manual_seed(0)

    def rows(count: int) -> Tensor:
        chosen = [torch.randperm(slots)[:count] for _ in range(steps * batch * heads)]
        return torch.stack(chosen).view(steps, batch, heads, count) + torch.arange(batch * heads).view(batch, heads, 1) * slots

    axes = steps, batch, heads
    parts = torch.rand(*axes, writes), torch.randn(*axes, width), -torch.rand(axes), torch.rand(axes)
    write = Write(rows(writes), *(part.to(dtype) for part in parts))
    return torch.randn(batch, heads, slots, width, dtype=dtype), write, Read(rows(reads), torch.rand(*axes, reads, dtype=dtype))


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


@builds
@pytest.mark.parametrize(("weighted", "ends_early"), [*itertools.product([False, True], repeat=2)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_steps_their_gradients_and_their_undo(size, weighted, ends_early, emulate, monkeypatch):
    monkeypatch.setattr(delta, "Build", functools.partial(Build, emulate=emulate))
    memory, write, read = accesses(size)
    lengths = [size[0] // 2, size[0]][: size[1]] if ends_early else None
    leaves = [memory.clone().requires_grad_(), *(part.clone().requires_grad_() for part in (*write[1:], read.weights))]
    plain = Write(write.rows, *leaves[1:5]), Read(read.rows, leaves[5])
    y, after = step_by_step(leaves[0], *plain, weighted, lengths)
    grad_y, grad_after = torch.randn_like(y), torch.randn_like(after)
    expected = torch.autograd.grad([y, after], leaves, [grad_y, grad_after])

    bank = memory.clone()
    given = None if lengths is None else Lengths(tuple(lengths), size[0])
    steps = DeltaSteps(bank, write, read, weighted=weighted, taped=True, lengths=given)
    close(steps.forward(), y)
    close(bank, after)
    end = bank.clone()
    steps.undo()
    assert torch.equal(bank, memory)
    steps.redo()
    assert torch.equal(bank, end)
    gradient = grad_after.clone().flatten(0, 2)
    found = steps.backward(grad_y, gradient, write.rows, read.rows)
    assert torch.equal(bank, memory)
    for got, wanted in zip([gradient.view_as(memory), *found], expected, strict=True):
        close(got, wanted)
    untaped = DeltaSteps(bank, write, read, weighted=weighted, taped=False, lengths=given)
    close(untaped.forward(), y)
    assert torch.equal(bank, end)


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected.detach(), rtol=1e-9, atol=1e-11)


def every_call(weighted: bool = True, snapshot: str = "exact") -> list[Any]:
    """Run every entry point on banks so small that steps meet in the same rows."""
    memory, write, read = accesses((4, 2, 1, 6, 9, 3, 2), torch.float32)
    steps = DeltaSteps(memory, write, read, weighted=weighted, taped=True, snapshot=snapshot, lengths=Lengths((3, 4), 4))
    y = steps.forward()
    gradient = torch.randn(12, 9)
    found = steps.backward(torch.ones_like(y), gradient, write.rows, read.rows)
    steps.redo()
    steps.undo()
    slots = ops.product_keys(torch.randn(3, 40), (23, 17), 5)
    return [y, gradient, *found, memory, slots]


@pytest.mark.parametrize("gpu_width", [None, 0], ids=["emu", "gpu"])
def test_no_race_and_every_removed_barrier_is_detected(gpu_width, tmp_path_factory):
    threads = emulator("thread", tmp_path_factory, gpu_width=gpu_width)
    kinds = ("exact", "int8", "bfloat16")
    with threads.instead():
        found = [part for kind in kinds for part in every_call(snapshot=kind)]
    for got, expected in zip(found, [part for kind in kinds for part in every_call(snapshot=kind)], strict=True):
        torch.testing.assert_close(got, expected)
    entries = {"mb_delta_forward", "mb_delta_backward", "mb_delta_undo", "mb_delta_redo", "mb_product_keys"}
    assert set(threads.sites) >= entries
    if gpu_width is None:  # the same text; the GPU's own barriers are those of warps
        assert threads.sites["mb_delta_backward"]
        assert threads.sites["mb_product_keys"]
    assert [site for entry in entries for site in threads.sites[entry] if threads.misses(entry, site)] == []
