"""Native product-key search against a sort of all slots, on the cpu and emu builds."""

import functools
import math

import pytest
import torch

from mann_bench.kernels import ops, reference
from mann_bench.kernels.native import build
from mann_bench.kernels.native.layout import Build
from tests.kernels.test_emulated import emulator

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")

SIDES = [
    ((1, 1), 1),
    ((8, 8), 4),
    ((5, 7, 3), 10),
    ((64,), 9),
    ((37, 41), 64),
    ((16, 16), 256),
    ((16, 17, 130), 8),
    ((300,), 1),
    ((64, 63), 4),
]


@pytest.mark.parametrize("emulate", [False, True], ids=["cpu", "emu"])
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


@pytest.mark.parametrize("gpu_width", [None, 0], ids=["emu", "gpu"])
def test_no_race_and_every_removed_barrier_is_detected(gpu_width, tmp_path_factory):
    threads, scores = emulator("thread", tmp_path_factory, gpu_width=gpu_width), torch.randn(3, 40)
    with threads.instead():
        found = ops.product_keys(scores, (23, 17), 5)
    assert torch.equal(found, ops.product_keys(scores, (23, 17), 5))
    entries = {"mb_product_keys"}
    threads.assert_every_barrier_matters(entries, entries if gpu_width is None else set())  # on a GPU they are those of warps
