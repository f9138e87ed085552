"""The memory of a large tape, kept for the next pass."""

import pytest
import torch

from mann_bench.kernels.native import reuse
from mann_bench.kernels.native.huge_pages import LEAST_BYTES

COUNT = LEAST_BYTES // 4


@pytest.fixture
def kept(monkeypatch):
    monkeypatch.setattr(reuse, "_kept", reuse._Kept())
    return reuse._kept


def make(count: int = COUNT, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return reuse.unset(torch.empty(0, dtype=dtype), (count,))


def sizes(kept) -> list[int]:
    return [block.numel() for block in kept.blocks]


def test_what_the_last_user_releases_is_used_again(kept):
    first = make()
    place, view = first.data_ptr(), first[4:].view(-1, 2)
    del first
    assert sizes(kept) == []
    view.fill_(1)
    del view
    assert sizes(kept) == [4 * COUNT]
    second = reuse.unset(torch.empty(0, dtype=torch.float64), (2, COUNT // 4))
    assert (second.data_ptr(), second.shape, second.dtype) == (place, (2, COUNT // 4), torch.float64)
    assert second.is_contiguous()
    assert sizes(kept) == []


def test_tensors_in_use_share_nothing(kept):
    first, second = make().fill_(1), make().fill_(2)
    assert bool((first == 1).all())
    del first, second
    assert sizes(kept) == [4 * COUNT, 4 * COUNT]


def test_the_smallest_that_fits(kept):
    held = [make(COUNT + part) for part in (9, 5, 7)]
    held.clear()
    assert make(COUNT + 6).shape == (COUNT + 6,)
    assert sorted(sizes(kept)) == [4 * (COUNT + part) for part in (5, 7, 9)]
    held = [make(COUNT + 6)]
    assert sorted(sizes(kept)) == [4 * (COUNT + part) for part in (5, 9)]


@pytest.mark.parametrize("count", [COUNT + 1, 3 * COUNT], ids=["far-too-large", "too-small"])
def test_what_does_not_fit_is_given_up(count, kept):
    kept.give_back(torch.empty(4 * (4 * COUNT + 1 - count), dtype=torch.uint8))
    held = make(count)
    assert held.shape == (count,)
    assert sizes(kept) == []


def test_no_more_blocks_than_a_pass_takes(kept):
    held = [make() for _ in range(reuse.MOST_BLOCKS + 2)]
    held.clear()
    assert len(kept.blocks) == reuse.MOST_BLOCKS


def test_small_ones_are_not_kept(kept):
    make(COUNT - 1)
    assert sizes(kept) == []


def test_a_profiler_sees_all_memory(kept):
    make()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        make()
    assert sum(event.self_cpu_memory_usage for event in profile.key_averages() if event.self_cpu_memory_usage > 0) >= 4 * COUNT
    assert sizes(kept) == [4 * COUNT]
